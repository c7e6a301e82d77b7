// Package mark writes into a picture that AI made it, and checks that a picture
// says so. The mark is an XMP packet with IPTC's properties for generated media
// (IPTC Photo Metadata Standard 2025.1): the digital source type, the system and
// its version, and the id of the job's record. It holds no prompt and no user.
package mark

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"

	"github.com/imgus/worker/job"
)

// Source is a digital source type of IPTC's vocabulary
// (https://cv.iptc.org/newscodes/digitalsourcetype/).
type Source string

// The sources that a job's picture can have.
const (
	// TrainedAlgorithmicMedia: made by a model alone.
	TrainedAlgorithmicMedia Source = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
	// CompositeWithTrainedAlgorithmicMedia: made by a model of a photo.
	CompositeWithTrainedAlgorithmicMedia Source = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
)

// Mark is what a picture says of its making. All of it must be set.
type Mark struct {
	Source Source
	// System and Version name the program that made the picture.
	System, Version string
	// ID is the job's, under which its record stands.
	ID string
}

// Of is the mark of the job's pictures.
func Of(j *job.Job, system, version string) Mark {
	m := Mark{Source: TrainedAlgorithmicMedia, System: system, Version: version, ID: j.ID}
	if j.Kind.NeedsInput() {
		m.Source = CompositeWithTrainedAlgorithmicMedia
	}
	return m
}

// container is a kind of file that carries marks.
type container struct {
	name  string
	magic string
	// split gives the parts of a whole file, in order; together they are all of
	// it. What the parts hold is not looked at.
	split func(data []byte) ([]part, error)
	// join makes the file with the packet out of the parts without.
	join func(plain []part, packet []byte) ([]byte, error)
	// pixels are the names of the parts that a picture needs.
	pixels []string
}

// part is a chunk or segment of a file.
type part struct {
	name string
	raw  []byte // all of its bytes, its header's and padding too
}

var containers = []container{pngFile, jpegFile, webpFile}

func containerOf(data []byte) (container, error) {
	for _, c := range containers {
		if bytes.HasPrefix(data, []byte(c.magic)) {
			return c, nil
		}
	}
	return container{}, errors.New("not a PNG, JPEG or WebP")
}

// Write returns the picture with the mark; its pixels are the same bytes. The
// picture is a PNG, JPEG or WebP with nothing in it but pixels, as
// imaging.Encode makes them; any other is refused.
func (m Mark) Write(data []byte) ([]byte, error) {
	marked, err := m.write(data)
	if err != nil {
		return nil, fmt.Errorf("mark picture: %w", err)
	}
	return marked, nil
}

// Verify checks that the picture carries this very mark, where readers look for
// it, and beside it nothing but pixels: no EXIF, comment, profile or thumbnail.
func (m Mark) Verify(data []byte) error {
	if err := m.verify(data); err != nil {
		return fmt.Errorf("verify mark: %w", err)
	}
	return nil
}

func (m Mark) write(data []byte) ([]byte, error) {
	packet, err := m.packet()
	if err != nil {
		return nil, err
	}
	c, err := containerOf(data)
	if err != nil {
		return nil, err
	}
	parts, err := c.split(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	for _, p := range parts {
		if !slices.Contains(c.pixels, p.name) {
			return nil, fmt.Errorf("%s: it holds %q, which is not of its pixels", c.name, p.name)
		}
	}
	marked, err := c.join(parts, packet)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	return marked, nil
}

// verify takes the mark out and puts it in again: only a file that holds
// exactly what write would have put there comes out as it was.
func (m Mark) verify(data []byte) error {
	packet, err := m.packet()
	if err != nil {
		return err
	}
	c, err := containerOf(data)
	if err != nil {
		return err
	}
	parts, err := c.split(data)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	var plain []part
	carriers := 0
	for _, p := range parts {
		if slices.Contains(c.pixels, p.name) {
			plain = append(plain, p)
		} else {
			carriers++
		}
	}
	if carriers == 0 {
		return fmt.Errorf("%s: it carries no mark", c.name)
	}
	marked, err := c.join(plain, packet)
	if err != nil {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	defer clear(marked)
	if !bytes.Equal(marked, data) {
		return fmt.Errorf("%s: it carries something else than this mark and pixels", c.name)
	}
	return nil
}

// packet is the XMP packet (XMP specification part 1, 7.3), read-only and so
// without padding.
func (m Mark) packet() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("<?xpacket begin=\"\ufeff\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>\n" +
		`<x:xmpmeta xmlns:x="adobe:ns:meta/">` + "\n" +
		` <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">` + "\n" +
		`  <rdf:Description rdf:about=""` + "\n" +
		`    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"` + "\n" +
		`    xmlns:dc="http://purl.org/dc/elements/1.1/"` + "\n" +
		`    xmlns:xmp="http://ns.adobe.com/xap/1.0/"`)
	for _, p := range []struct{ name, value string }{
		{"Iptc4xmpExt:DigitalSourceType", string(m.Source)},
		{"Iptc4xmpExt:AISystemUsed", m.System},
		{"Iptc4xmpExt:AISystemVersionUsed", m.Version},
		{"xmp:CreatorTool", m.System + " " + m.Version},
		{"dc:identifier", m.ID},
	} {
		if p.value == "" || m.System == "" || m.Version == "" {
			return nil, fmt.Errorf("there is no %s", p.name)
		}
		b.WriteString("\n    " + p.name + `="`)
		if err := xml.EscapeText(&b, []byte(p.value)); err != nil {
			return nil, fmt.Errorf("escape %s: %w", p.name, err)
		}
		b.WriteString(`"`)
	}
	b.WriteString("/>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end=\"r\"?>")
	return b.Bytes(), nil
}
