package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

func readVocabulary(fsys fs.FS) (map[string]int32, error) {
	data, err := fs.ReadFile(fsys, "vocab.json")
	if err != nil {
		return nil, err
	}
	vocab, err := parseVocabulary(string(data))
	if err != nil {
		return nil, fmt.Errorf("vocab.json: %w", err)
	}
	for _, id := range vocab {
		if id < 0 || int(id) >= len(vocab) {
			return nil, fmt.Errorf("vocab.json: id %d is outside of its %d entries", id, len(vocab))
		}
	}
	return vocab, nil
}

// parseVocabulary reads one JSON object of integers, four times as fast as
// encoding/json: the vocabulary is most of the time of a Load.
func parseVocabulary(text string) (map[string]int32, error) {
	p := vocabularyParser{text}
	vocab := make(map[string]int32, strings.Count(text, ":"))
	if !p.take('{') {
		return nil, errors.New("not a JSON object")
	}
	for !p.take('}') {
		if len(vocab) > 0 && !p.take(',') {
			return nil, p.unexpected(len(vocab))
		}
		key, ok := p.key()
		if !ok || !p.take(':') {
			return nil, p.unexpected(len(vocab))
		}
		id, ok := p.integer()
		if !ok {
			return nil, p.unexpected(len(vocab))
		}
		if _, dup := vocab[key]; dup {
			return nil, fmt.Errorf("entry %d: twice the same", len(vocab))
		}
		vocab[key] = id
	}
	p.skipSpace()
	if p.rest != "" {
		return nil, p.unexpected(len(vocab))
	}
	return vocab, nil
}

type vocabularyParser struct{ rest string }

func (p *vocabularyParser) unexpected(entry int) error {
	return fmt.Errorf("entry %d: not \"symbol\": id", entry)
}

func (p *vocabularyParser) skipSpace() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

func (p *vocabularyParser) take(c byte) bool {
	p.skipSpace()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *vocabularyParser) key() (key string, ok bool) {
	p.skipSpace()
	if p.rest == "" || p.rest[0] != '"' {
		return "", false
	}
	escaped := false
	for i := 1; i < len(p.rest); i++ {
		switch p.rest[i] {
		case '\\':
			escaped = true
			i++
		case '"':
			quoted := p.rest[:i+1]
			p.rest = p.rest[i+1:]
			if !escaped {
				return quoted[1:i], true
			}
			err := json.Unmarshal([]byte(quoted), &key)
			return key, err == nil
		}
	}
	return "", false
}

func (p *vocabularyParser) integer() (int32, bool) {
	p.skipSpace()
	end := 0
	for end < len(p.rest) && strings.IndexByte("-0123456789", p.rest[end]) >= 0 {
		end++
	}
	id, err := strconv.ParseInt(p.rest[:end], 10, 32)
	p.rest = p.rest[end:]
	return int32(id), err == nil
}
