package canary

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"image"
	"image/jpeg"
	"image/png"
)

// Places are where JPEG and PNG plant canaries beside the pixels.
var Places = []string{"description", "artist", "maker-note", "gps", "thumbnail", "xmp", "comment"}

// JPEG is a photo of 96 by 64 pixels with a canary in every place where cameras
// and programs leave something, IPTC's own included.
func (s *Set) JPEG(job string) []byte {
	var b bytes.Buffer
	if err := jpeg.Encode(&b, scene(""), nil); err != nil {
		panic(err)
	}
	iptc := s.Text(job, "iptc") // record 2, dataset 120: caption
	resource := fmt.Appendf(nil, "Photoshop 3.0\x008BIM\x04\x04\x00\x00%s", number(uint32(5+len(iptc))))
	resource = append(append(resource, 0x1c, 2, 120, byte(len(iptc)>>8), byte(len(iptc))), iptc...)
	if len(iptc)%2 == 0 {
		resource = append(resource, 0) // they are of an even length, header and all
	}
	out := append([]byte{}, b.Bytes()[:2]...)
	out = append(out, segment(0xe1, append([]byte("Exif\x00\x00"), s.exif(job)...))...)
	out = append(out, segment(0xe1, append([]byte("http://ns.adobe.com/xap/1.0/\x00"), s.xmp(job)...))...)
	out = append(out, segment(0xed, resource)...)
	out = append(out, segment(0xfe, []byte(s.Text(job, "comment")))...)
	return append(out, b.Bytes()[2:]...)
}

// PNG is the same, without IPTC's own, and the first pixels spell a canary.
func (s *Set) PNG(job string) []byte {
	var b bytes.Buffer
	if err := png.Encode(&b, scene(s.Text(job, "pixels"))); err != nil {
		panic(err)
	}
	const header = 8 + 25
	out := append([]byte{}, b.Bytes()[:header]...)
	out = append(out, chunk("eXIf", s.exif(job))...)
	out = append(out, chunk("iTXt", append([]byte("XML:com.adobe.xmp\x00\x00\x00\x00\x00"), s.xmp(job)...))...)
	out = append(out, chunk("tEXt", []byte("Comment\x00"+s.Text(job, "comment")))...)
	return append(out, b.Bytes()[header:]...)
}

// scene is a picture whose first row begins with the text, as red, green and
// blue.
func scene(text string) *image.NRGBA {
	img := image.NewNRGBA(image.Rect(0, 0, 96, 64))
	for i := range 96 * 64 {
		copy(img.Pix[4*i:], []byte{byte(i % 96 * 2), byte(i / 96 * 4), byte(i % 7 * 30), 255})
	}
	for i := range len(text) {
		img.Pix[i/3*4+i%3] = text[i]
	}
	return img
}

func (s *Set) xmp(job string) string {
	return `<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:identifier="` +
		s.Text(job, "xmp") + `"/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>`
}

// exif is a TIFF structure, big endian, with a directory of tags, one of the
// camera's, one of GPS and a thumbnail.
func (s *Set) exif(job string) []byte {
	const ascii, long, rational, undefined = 2, 4, 5, 7
	t := &tiff{data: []byte("MM\x00*\x00\x00\x00\x08")}
	main := t.directory(5)
	t.put(main, 0, 0x010e, ascii, s.Text(job, "description")+"\x00")
	t.put(main, 1, 0x0112, 3, "\x00\x01") // orientation: upright
	t.put(main, 2, 0x013b, ascii, s.Text(job, "artist")+"\x00")
	camera := t.directory(1)
	t.put(camera, 0, 0x927c, undefined, s.Text(job, "maker-note"))
	t.put(main, 3, 0x8769, long, number(uint32(camera)))
	gps := t.directory(5)
	t.put(gps, 0, 1, ascii, "N\x00")
	t.put(gps, 1, 2, rational, number(52)+number(1)+number(31)+number(1)+number(123)+number(10))
	t.put(gps, 2, 3, ascii, "E\x00")
	t.put(gps, 3, 4, rational, number(13)+number(1)+number(24)+number(1)+number(456)+number(10))
	t.put(gps, 4, 0x1c, undefined, "ASCII\x00\x00\x00"+s.Text(job, "gps"))
	t.put(main, 4, 0x8825, long, number(uint32(gps)))
	thumbnail := t.directory(2)
	binary.BigEndian.PutUint32(t.data[main+2+5*12:], uint32(thumbnail)) // the next of the main one
	picture := "\xff\xd8\xff\xfe" + string([]byte{0, byte(2 + len(s.Text(job, "thumbnail")))}) + s.Text(job, "thumbnail") + "\xff\xd9"
	t.put(thumbnail, 0, 0x0201, long, number(uint32(len(t.data))))
	t.put(thumbnail, 1, 0x0202, long, number(uint32(len(picture))))
	t.data = append(t.data, picture...)
	return t.data
}

type tiff struct{ data []byte }

// directory makes room for n entries and returns where.
func (t *tiff) directory(n int) int {
	at := len(t.data)
	t.data = append(t.data, make([]byte, 2+12*n+4)...)
	binary.BigEndian.PutUint16(t.data[at:], uint16(n))
	return at
}

// put fills an entry; what does not fit into it goes behind.
func (t *tiff) put(directory, i int, tag, kind uint16, value string) {
	count := len(value) / map[uint16]int{2: 1, 3: 2, 4: 4, 5: 8, 7: 1}[kind]
	entry := binary.BigEndian.AppendUint16(nil, tag)
	entry = binary.BigEndian.AppendUint16(entry, kind)
	entry = binary.BigEndian.AppendUint32(entry, uint32(count))
	if len(value) > 4 {
		entry = binary.BigEndian.AppendUint32(entry, uint32(len(t.data)))
		t.data = append(t.data, value+"\x00"[:len(value)%2]...)
	} else {
		entry = append(entry, value...)
	}
	copy(t.data[directory+2+12*i:], entry)
}

func number(v uint32) string { return string(binary.BigEndian.AppendUint32(nil, v)) }

func segment(marker byte, body []byte) []byte {
	return append([]byte{0xff, marker, byte((len(body) + 2) >> 8), byte(len(body) + 2)}, body...)
}

func chunk(kind string, body []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(append(b, kind...), body...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[4:]))
}
