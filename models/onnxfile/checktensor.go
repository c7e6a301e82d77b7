package onnxfile

import (
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// More numbers of onnx.proto.
const (
	tensorDims     = 1
	tensorType     = 2
	tensorRaw      = 9
	tensorExternal = 13
	tensorPlace    = 14 // 0: in the file, 1: in another
)

// weightFields are the fields of a tensor that hold its elements.
var weightFields = fields(4, 5, 6, 7, tensorRaw, 10, 11)

// maxDims is the highest rank of a tensor, more than any operator takes.
const maxDims = 16

// tensor is what a check needs to know of a TensorProto.
type tensor struct {
	name     string
	dims     int
	elements int64 // -1: more than can be counted
	kind     int64
	inside   int64 // bytes of elements in the model itself
	external bool
	entries  map[string]string
}

func (c *checker) tensor(e element) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	t := tensor{elements: 1}
	err = c.each(body, fields(tensorType, 3, tensorName, tensorRaw, 12, tensorPlace), func(e element) (err error) {
		switch e.number {
		case tensorDims:
			return c.packed(e, t.axis)
		case tensorType:
			t.kind, err = e.number64()
		case tensorName:
			t.name, err = c.name(e)
		case tensorPlace:
			var place int64
			place, err = e.number64()
			if err == nil && place != 0 && place != 1 {
				err = refused("the tensor %.80q lies in an unknown place", t.name)
			}
			t.external = t.external || place == 1
		case tensorExternal:
			t.external = true
			err = c.entry(e, &t)
		default:
			if e.number < 64 && weightFields&(1<<e.number) != 0 && e.kind == protowire.BytesType {
				t.inside += e.body.size()
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	c.weights += t.inside
	if t.elements < 0 {
		return refused("the tensor %.80q has more elements than can be counted", t.name)
	}
	if t.external {
		return c.externalData(t)
	}
	return nil
}

// axis multiplies the size of one more axis in.
func (t *tensor) axis(size int64) error {
	if t.dims++; size < 0 || t.dims > maxDims {
		return refused("a tensor has a shape that cannot be: %d axes, one of size %d", t.dims, size)
	}
	switch {
	case t.elements == 0 || size == 0:
		t.elements = 0
	case t.elements < 0 || t.elements > math.MaxInt64/size:
		t.elements = -1
	default:
		t.elements *= size
	}
	return nil
}

// entry reads one key and value about external data.
func (c *checker) entry(e element, t *tensor) error {
	body, err := e.message()
	if err != nil {
		return err
	}
	var key, value string
	err = c.each(body, fields(1, 2), func(e element) (err error) {
		switch e.number {
		case 1:
			key, err = c.name(e)
		case 2:
			value, err = c.name(e)
		}
		return err
	})
	if err != nil {
		return err
	}
	switch key {
	case "location", "offset", "length", "checksum":
	default:
		return refused("the external data of a tensor has the unknown key %.80q", key)
	}
	if _, twice := t.entries[key]; twice {
		return refused("the external data of a tensor has two of %s", key)
	}
	if t.entries == nil {
		t.entries = map[string]string{}
	}
	t.entries[key] = value
	return nil
}

// externalData checks that a tensor's elements lie inside a file that is known.
func (c *checker) externalData(t tensor) error {
	location := t.entries["location"]
	if t.inside > 0 {
		return refused("the tensor %.80q has elements inside and outside the file", t.name)
	}
	if !plain(location) {
		return refused("the location %.80q of external data is no plain path inside the folder", location)
	}
	size, known := c.files[location]
	if !known {
		var err error
		if size, err = c.external(location); err != nil {
			return refused("the external data %.80q: %s", location, err)
		}
		c.files[location] = size
	}
	offset, err := t.number("offset", 0)
	if err != nil {
		return err
	}
	bits := elementBits(t.kind)
	if bits == 0 || t.elements > math.MaxInt64/bits {
		return refused("the tensor %.80q has external data of type %d", t.name, t.kind)
	}
	length := (t.elements*bits + 7) / 8
	said, err := t.number("length", length)
	if err != nil {
		return err
	}
	if said != length {
		return refused("the tensor %.80q takes %d bytes, and its external data has %d", t.name, length, said)
	}
	if offset > size || length > size-offset {
		return refused("the tensor %.80q reaches from byte %d to beyond the %d bytes of %.80q", t.name, offset, size, location)
	}
	return nil
}

// plain reports whether a location is a relative path with nothing in it that
// some system could take for a way out.
func plain(location string) bool {
	if location == "" || strings.ContainsAny(location, "\\:\x00") {
		return false
	}
	for part := range strings.SplitSeq(location, "/") {
		if part == "" || part == "." || part == ".." {
			return false
		}
	}
	return true
}

// number reads an entry that is a whole number in decimal digits.
func (t *tensor) number(key string, absent int64) (int64, error) {
	text, ok := t.entries[key]
	if !ok {
		return absent, nil
	}
	v, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, refused("the external data of the tensor %.80q has the %s %.40q", t.name, key, text)
	}
	return int64(v), nil
}

// elementBits is the size of an element by its TensorProto.DataType; 0 for
// strings, which cannot be external, and for types that are not known.
func elementBits(kind int64) int64 {
	switch kind {
	case 21, 22, 23: // 4-bit integers and floats
		return 4
	case 25, 26: // 2-bit integers
		return 2
	case 2, 3, int64(Bool), 17, 18, 19, 20, 24: // 8-bit integers and floats
		return 8
	case 4, 5, int64(Float16), int64(BFloat16): // 16-bit integers and floats
		return 16
	case int64(Float32), int64(Int32), 12:
		return 32
	case int64(Int64), int64(Float64), 13, 14: // also UINT64 and COMPLEX64
		return 64
	case 15: // COMPLEX128
		return 128
	default:
		return 0
	}
}
