package onnxfile

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// field is one field of a protobuf message as it stands on the wire. Payloads
// point into the file's own bytes, so that weights are never copied.
type field struct {
	number  protowire.Number
	kind    protowire.Type
	payload []byte // of a bytes field: its content; of any other: the encoded value
}

// message is a protobuf message as the sequence of its fields. It keeps what
// this package does not know, so that an edited model loses nothing.
type message []field

var errBroken = errors.New("not a valid ONNX file")

// parse splits a message into its fields.
func parse(data []byte) (message, error) {
	var m message
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errBroken, protowire.ParseError(n))
		}
		data = data[n:]
		if kind == protowire.BytesType {
			content, n := protowire.ConsumeBytes(data)
			if n < 0 {
				return nil, fmt.Errorf("%w: %w", errBroken, protowire.ParseError(n))
			}
			m = append(m, field{number, kind, content})
			data = data[n:]
			continue
		}
		n = protowire.ConsumeFieldValue(number, kind, data)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", errBroken, protowire.ParseError(n))
		}
		m = append(m, field{number, kind, data[:n]})
		data = data[n:]
	}
	return m, nil
}

// header is what comes before the content of a bytes field.
func header(number protowire.Number, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.BytesType), uint64(size)) //nolint:gosec // a size
}

// size is the number of bytes that the field takes.
func (f field) size() int {
	size := protowire.SizeTag(f.number) + len(f.payload)
	if f.kind == protowire.BytesType {
		size += protowire.SizeVarint(uint64(len(f.payload)))
	}
	return size
}

func (f field) write(write func([]byte) error) error {
	head := protowire.AppendTag(nil, f.number, f.kind)
	if f.kind == protowire.BytesType {
		head = header(f.number, len(f.payload))
	}
	if err := write(head); err != nil {
		return err
	}
	return write(f.payload)
}

func (m message) size() int {
	size := 0
	for _, f := range m {
		size += f.size()
	}
	return size
}

func (m message) encode() []byte {
	out := make([]byte, 0, m.size())
	for _, f := range m {
		out = protowire.AppendTag(out, f.number, f.kind)
		if f.kind == protowire.BytesType {
			out = protowire.AppendVarint(out, uint64(len(f.payload)))
		}
		out = append(out, f.payload...)
	}
	return out
}

// all returns the contents of every bytes field with the number.
func (m message) all(number protowire.Number) [][]byte {
	var out [][]byte
	for _, f := range m {
		if f.number == number && f.kind == protowire.BytesType {
			out = append(out, f.payload)
		}
	}
	return out
}

// bytes returns the last bytes field with the number: as protobuf has it, the
// last one counts.
func (m message) bytes(number protowire.Number) ([]byte, bool) {
	for _, f := range slices.Backward(m) {
		if f.number == number && f.kind == protowire.BytesType {
			return f.payload, true
		}
	}
	return nil, false
}

func (m message) text(number protowire.Number) string {
	b, _ := m.bytes(number)
	return string(b)
}

func (m message) strings(number protowire.Number) []string {
	var out []string
	for _, b := range m.all(number) {
		out = append(out, string(b))
	}
	return out
}

func (m message) integer(number protowire.Number) int64 {
	for _, f := range slices.Backward(m) {
		if f.number == number && f.kind == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(f.payload)
			return int64(v) //nolint:gosec // protobuf's int64 is this very conversion
		}
	}
	return 0
}

func bytesField(number protowire.Number, content []byte) field {
	return field{number, protowire.BytesType, content}
}

func varintField(number protowire.Number, v int64) field {
	return field{number, protowire.VarintType, protowire.AppendVarint(nil, uint64(v))} //nolint:gosec // as above
}
