package onnxfile

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// scan walks the protobuf of a file without reading what it skips: a model of
// gigabytes costs the same memory as a small one.
type scan struct {
	file io.ReaderAt
	// window holds the bytes of the file from at on.
	window []byte
	at     int64
	buffer [1 << 14]byte

	// fields is how many fields may still be read.
	fields int
}

// span is a message or a string: where it lies in the file.
type span struct{ at, end int64 }

func (s span) size() int64 { return s.end - s.at }

// element is one field of a message.
type element struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64 // of a varint
	body   span   // of a bytes field
}

// peek gives n bytes of the file, or all up to end. They are valid until the
// next call; n is at most the buffer's size.
func (s *scan) peek(at, end int64, n int) ([]byte, error) {
	n = int(min(int64(n), end-at))
	if at < s.at || at+int64(n) > s.at+int64(len(s.window)) {
		got, err := s.file.ReadAt(s.buffer[:], at)
		if got < n {
			s.window = nil
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("read model: %w", err)
		}
		s.window, s.at = s.buffer[:got], at
	}
	return s.window[at-s.at:][:n], nil
}

// next reads the field at the beginning of the message and takes it off; ok is
// false at the end.
func (s *scan) next(m *span) (e element, ok bool, err error) {
	if m.at >= m.end {
		return element{}, false, nil
	}
	if s.fields--; s.fields < 0 {
		return element{}, false, refused("it has too many fields")
	}
	const longest = 20 // a tag and a varint
	data, err := s.peek(m.at, m.end, longest)
	if err != nil {
		return element{}, false, err
	}
	number, kind, n := protowire.ConsumeTag(data)
	if n < 0 {
		return element{}, false, broken(n)
	}
	e, data, used := element{number: number, kind: kind}, data[n:], int64(n)
	switch kind {
	case protowire.VarintType, protowire.BytesType:
		if e.value, n = protowire.ConsumeVarint(data); n < 0 {
			return element{}, false, broken(n)
		}
	case protowire.Fixed32Type:
		n = 4
	case protowire.Fixed64Type:
		n = 8
	default:
		return element{}, false, refused("it has a group, which ONNX does not know")
	}
	used += int64(n)
	m.at += used
	if kind == protowire.BytesType {
		if m.at > m.end || e.value > uint64(m.end-m.at) { //nolint:gosec // the first term is why
			return element{}, false, fmt.Errorf("%w: a field is longer than what holds it", errBroken)
		}
		e.body = span{m.at, m.at + int64(e.value)} //nolint:gosec // it is within the file
		m.at = e.body.end
	}
	if m.at > m.end {
		return element{}, false, fmt.Errorf("%w: it ends within a field", errBroken)
	}
	return e, true, nil
}

func broken(n int) error { return fmt.Errorf("%w: %w", errBroken, protowire.ParseError(n)) }

// text reads a short string.
func (s *scan) text(body span) (string, error) {
	const longest = 1 << 12
	if body.size() > longest {
		return "", refused("it has a name of %d bytes", body.size())
	}
	data, err := s.peek(body.at, body.end, longest)
	return string(data), err
}

// bytes reads a short message whole. The result is valid until the next call.
func (s *scan) bytes(body span) ([]byte, error) {
	if body.size() > int64(len(s.buffer)) {
		return nil, refused("it has a field of %d bytes where a short one belongs", body.size())
	}
	return s.peek(body.at, body.end, len(s.buffer))
}
