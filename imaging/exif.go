package imaging

import (
	"bytes"
	"encoding/binary"
)

// exifOrientation reads the Orientation tag of an EXIF block's first directory
// (TIFF 6.0, 2), in place: a photo's place and time stand beside it and shall be
// copied nowhere. As Pillow does it, the last such tag counts, whole numbers of any
// width are obeyed, and one of another type tells that there is none. What is
// broken tells nothing.
func exifOrientation(exif []byte) (o int, told bool) {
	const header, entry, tag = 8, 12, 0x0112
	var order binary.ByteOrder
	switch {
	case len(exif) < header:
		return 0, false
	case bytes.HasPrefix(exif, []byte("II*\x00")):
		order = binary.LittleEndian
	case bytes.HasPrefix(exif, []byte("MM\x00*")):
		order = binary.BigEndian
	default:
		return 0, false
	}
	at := int64(order.Uint32(exif[4:]))
	if at+2 > int64(len(exif)) {
		return 0, false
	}
	entries := exif[at+2:]
	for n := order.Uint16(exif[at:]); n > 0 && len(entries) >= entry; n-- {
		if order.Uint16(entries) == tag {
			o, told = wholeNumber(order, order.Uint16(entries[2:]), entries[8:entry]), true
		}
		entries = entries[entry:]
	}
	return o, told
}

// wholeNumber reads a value by its type, 0 where that is another.
func wholeNumber(order binary.ByteOrder, kind uint16, value []byte) int {
	const sbyte, short, sshort, long, slong, ifd = 6, 3, 8, 4, 9, 13
	switch kind {
	case sbyte:
		return int(int8(value[0]))
	case short, sshort:
		return int(int16(order.Uint16(value)))
	case long, slong, ifd:
		return int(int32(order.Uint32(value)))
	default:
		return 0
	}
}
