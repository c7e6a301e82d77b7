package remote

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxLogLine bounds a line of a child's output; what is longer is cut.
	maxLogLine = 16 << 10
	// maxPlainLine bounds a line that is no log line of ours.
	maxPlainLine = 1 << 10
	// maxPlainLines bounds those of one life: a crash writes many.
	maxPlainLines = 100
)

// forward passes a child's output on, line by line, until it ends: lines of
// slog's JSON as they were meant, anything else as warnings. It returns the
// last line that tells why a program ends.
func forward(output io.Reader, log *slog.Logger) (last string) {
	r := bufio.NewReaderSize(output, maxLogLine)
	plain := 0
	for {
		part, err := r.ReadSlice('\n')
		text := bytes.TrimSpace(bytes.Clone(part))
		for errors.Is(err, bufio.ErrBufferFull) { // drop the rest
			_, err = r.ReadSlice('\n')
		}
		switch {
		case len(text) == 0:
		case forwardRecord(text, log):
		default:
			said := printable(text)
			if telling(said) {
				last = said
			}
			if plain++; plain < maxPlainLines {
				log.Warn("output of the engine", "text", said)
			} else if plain == maxPlainLines {
				log.Warn("the engine writes more than is logged")
			}
		}
		if err != nil {
			return last
		}
	}
}

// telling reports whether the line is likely to say why a program ends: ours,
// Go's runtime, C++'s and glibc's.
func telling(text string) bool {
	for _, prefix := range []string{"worker: ", "panic: ", "fatal error: ", "SIG", "terminate called", "double free", "free()", "malloc"} {
		if strings.HasPrefix(text, prefix) {
			return true
		}
	}
	return false
}

func printable(text []byte) string {
	s := strings.ToValidUTF8(string(text), "�")
	if len(s) > maxPlainLine {
		s = s[:maxPlainLine]
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
		s += "…"
	}
	return s
}

// forwardRecord passes on a line that slog.JSONHandler wrote.
func forwardRecord(text []byte, log *slog.Logger) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	record := slog.NewRecord(time.Now(), slog.LevelInfo, "", 0)
	known := 0
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return false
		}
		var value any
		if dec.Decode(&value) != nil {
			return false
		}
		name, _ := key.(string)
		said, isText := value.(string)
		switch {
		case name == slog.TimeKey && isText:
			if at, err := time.Parse(time.RFC3339Nano, said); err == nil {
				record.Time = at
			}
		case name == slog.LevelKey && isText:
			if record.Level.UnmarshalText([]byte(said)) != nil {
				return false
			}
			known++
		case name == slog.MessageKey && isText:
			record.Message = said
			known++
		case name == "device": // the child counts those that it sees; log has its name
		default:
			record.AddAttrs(attribute(name, value))
		}
	}
	if known != 2 {
		return false
	}
	if handler := log.Handler(); handler.Enabled(context.Background(), record.Level) {
		_ = handler.Handle(context.Background(), record) // as slog.Logger does
	}
	return true
}

// attribute keeps the types that matter to a reader of logs.
func attribute(name string, value any) slog.Attr {
	switch v := value.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return slog.Int64(name, i)
		}
		if f, err := v.Float64(); err == nil {
			return slog.Float64(name, f)
		}
	case map[string]any:
		var group []any
		for key, inner := range v {
			group = append(group, attribute(key, inner))
		}
		return slog.Group(name, group...)
	}
	return slog.Any(name, value)
}
