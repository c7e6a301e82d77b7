// Package canary is support for tests: it plants text that occurs nowhere else
// in a job's prompts and photo, and finds it again wherever it got to.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf16"
)

// Set is the canaries of one run. They share a stem, so that one search finds
// all of them, and what follows it tells where a found one was planted.
type Set struct {
	stem  string
	forms []form
}

// form is what the stem looks like when somebody has encoded it.
type form struct {
	name string
	text []byte
}

// stemLength is long enough to hold a word of the machine at any alignment.
const stemLength = 20

// New makes canaries that no other run has.
func New() *Set {
	// Letters that look like no other: what folds confusable text leaves them.
	const letters = "bcdfghkqxz"
	stem := make([]byte, stemLength)
	for i := range stem {
		stem[i] = letters[rand.IntN(len(letters))]
	}
	return &Set{stem: string(stem), forms: forms(stem)}
}

// Text is the canary of a place, such as the prompt of a job.
func (s *Set) Text(job, place string) string { return s.stem + "-" + job + "-" + place }

// forms are the stem as it stands and as it is written by encoders, printers
// and the registers of a stack trace.
func forms(stem []byte) []form {
	all := []form{
		{"plain", stem},
		{"upper case", bytes.ToUpper(stem)},
		{"hexadecimal", []byte(hex.EncodeToString(stem))},
		{"upper hexadecimal", []byte(strings.ToUpper(hex.EncodeToString(stem)))},
		{"list of numbers", []byte(strings.Trim(fmt.Sprint(stem), "[]"))},                          //nolint:staticcheck // as a careless log has it
		{"JSON array", []byte(strings.ReplaceAll(strings.Trim(fmt.Sprint(stem), "[]"), " ", ","))}, //nolint:staticcheck // as above
		{"escaped", []byte(`\x` + strings.Join(pairs(hex.EncodeToString(stem)), `\x`))},
	}
	var little, big []byte
	for _, u := range utf16.Encode([]rune(string(stem))) {
		little, big = binary.LittleEndian.AppendUint16(little, u), binary.BigEndian.AppendUint16(big, u)
	}
	all = append(all, form{"UTF-16, little endian", little}, form{"UTF-16, big endian", big})
	for offset := range 3 { // the characters that do not depend on what is around
		text := base64.StdEncoding.EncodeToString(append(make([]byte, offset), stem...))
		all = append(all, form{"base64", []byte(text[(offset*8+5)/6 : (offset+stemLength)*8/6])})
	}
	for i := range stemLength - 7 {
		all = append(all, form{"machine word", fmt.Appendf(nil, "%x", binary.LittleEndian.Uint64(stem[i:]))})
	}
	return all
}

func pairs(text string) (out []string) {
	for i := 0; i < len(text); i += 2 {
		out = append(out, text[i:i+2])
	}
	return out
}

// Find tells of each form in which a canary is in the data: the form, and for
// plain text which canary it is. None is nil.
func (s *Set) Find(data []byte) (hits []string) {
	for _, f := range s.forms {
		i := bytes.Index(data, f.text)
		if i < 0 {
			continue
		}
		hit := f.name
		if f.name == "plain" {
			hit += ": " + strings.ToValidUTF8(string(data[i:min(i+len(s.stem)+40, len(data))]), "?")
		}
		hits = append(hits, hit)
	}
	return hits
}

// FindInFiles searches a folder: names of files and what is in them.
func (s *Set) FindInFiles(dir string) (hits []string, err error) {
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		for _, hit := range s.Find([]byte(path)) {
			hits = append(hits, "name of "+path+": "+hit)
		}
		if !entry.Type().IsRegular() {
			return nil
		}
		data, err := os.ReadFile(path)
		for _, hit := range s.Find(data) {
			hits = append(hits, path+": "+hit)
		}
		return err
	})
	return hits, err
}
