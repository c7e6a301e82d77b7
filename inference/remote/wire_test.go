package remote

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/internal/memtest"
	"github.com/imgus/worker/job"
)

// The wire is inside: its two readers are tested where they are.

func TestReadQuestion(t *testing.T) {
	const ok = `{"job":{"version":1,"id":"a","kind":"inpaint","model":"m","prompt":"p"},"input_bytes":3,"mask_bytes":2}` + "\n"
	r, err := readQuestion(strings.NewReader(ok + "abcde"))
	if err != nil || string(r.Input) != "abc" || string(r.Mask) != "de" || r.Job.Kind != job.Inpaint || *r.Job.Prompt != "p" {
		t.Fatalf("%+v, %v", r, err)
	}
	for text, want := range map[string]error{
		"":          io.ErrUnexpectedEOF,
		ok[:20]:     io.ErrUnexpectedEOF,
		ok + "abcd": io.ErrUnexpectedEOF,
		ok:          io.EOF,
		"{}\n":      errWire,
		"[]\n":      errWire,
		"x\n":       errWire,
		`{"job":{},"input_bytes":20971521}` + "\n":           errWire,
		`{"job":{},"input_bytes":-1}` + "\n":                 errWire,
		`{"job":{},"mask_bytes":9223372036854775807}` + "\n": errWire,
		strings.Repeat("x", maxLine+1):                       errWire,
	} {
		if _, err := readQuestion(strings.NewReader(text)); !errors.Is(err, want) {
			t.Errorf("%.60q: got %v, want %v", text, err, want)
		}
	}
}

// What the reader of a question or an answer keeps for itself holds nothing of it.
func TestNothingStaysInTheReader(t *testing.T) {
	for name, c := range map[string]struct {
		head string
		read func(io.Reader) ([]byte, error)
	}{
		"question": {`{"job":{"version":1,"id":"a"},"input_bytes":200}`, func(r io.Reader) ([]byte, error) {
			q, err := readQuestion(r)
			return q.Input, err
		}},
		"picture": {`{"target":"input","bytes":200}`, func(r io.Reader) ([]byte, error) {
			p, err := readPicture(r)
			return p.Data, err
		}},
		"answer": {`{"result":{"images":[{"bytes":200,"format":"png","width":64,"height":64}]}}`, func(r io.Reader) ([]byte, error) {
			a, err := readAnswer(r, nil)
			return a.result.Images[0].Data, err
		}},
		"cut answer": {`{"result":{"images":[{"bytes":200,"format":"png","width":64,"height":64},{"bytes":9,"format":"png","width":64,"height":64}]}}`, func(r io.Reader) ([]byte, error) {
			if _, err := readAnswer(r, nil); !errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("got %w", err)
			}
			return nil, nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			memtest.Gone(t, func(s *memtest.Secret) {
				said := append([]byte(c.head+"\n"), make([]byte, 200)...)
				s.Write(said[len(said)-100:])
				got, err := c.read(bytes.NewReader(said))
				if err != nil {
					t.Fatal(err)
				}
				clear(said)
				clear(got)
			})
		})
	}
}

func TestNothingStaysOfAnAnswer(t *testing.T) {
	memtest.Gone(t, func(s *memtest.Secret) {
		here, there := net.Pipe()
		said := append([]byte("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n"), make([]byte, 200)...)
		s.Write(said[len(said)-100:])
		go func() {
			_, _ = http.ReadRequest(bufio.NewReader(there))
			_, _ = there.Write(said)
			_ = there.Close()
		}()
		resp, err := send(t.Context(), here, http.MethodGet, "/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 200)
		if _, err := io.ReadFull(resp.Body, got); err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		clear(said)
		clear(got)
	})
}

func TestReadAnswer(t *testing.T) {
	const (
		image    = `{"bytes":3,"format":"png","width":64,"height":64,"seed":9}`
		progress = `{"progress":{"stage":"denoise","step":2,"steps":3}}` + "\n"
	)
	result := func(images string) string {
		return `{"result":{"images":[` + images + `],"model":{"name":"m"},"timings_ms":{"load":1}},"models":["m"]}` + "\n"
	}
	var heard []job.Progress
	a, err := readAnswer(strings.NewReader(progress+result(image+","+image)+"abcdef"), func(p job.Progress) { heard = append(heard, p) })
	if err != nil || len(a.result.Images) != 2 || string(a.result.Images[1].Data) != "def" || a.result.Images[0].Seed != 9 || a.Models[0] != "m" {
		t.Fatalf("%+v, %v", a, err)
	}
	if diff := cmp.Diff([]job.Progress{{Stage: job.StageDenoise, Step: 2, Steps: 3}}, heard); diff != "" {
		t.Error(diff)
	}
	change := func(old, with string) string { return result(strings.Replace(image, old, with, 1)) + "abc" }
	for name, text := range map[string]string{
		"nine images":       result(strings.TrimSuffix(strings.Repeat(image+",", 9), ",")),
		"larger than it is": change(`"bytes":3`, `"bytes":100000`),
		"no bytes":          change(`"bytes":3`, `"bytes":0`),
		"negative bytes":    change(`"bytes":3`, `"bytes":-3`),
		"huge side":         change(`"width":64`, `"width":1000000000`),
		"no side":           change(`"width":64`, `"width":0`),
		"format":            change(`"png"`, `"svg"`),
		"stage":             `{"progress":{"stage":"x"}}` + "\n",
		"step":              `{"progress":{"stage":"denoise","step":4,"steps":3}}` + "\n",
		"timings":           `{"result":{"timings_ms":{"x":1}}}` + "\n",
		"code":              `{"error":{"code":"a b","message":"x"}}` + "\n",
	} {
		if _, err := readAnswer(strings.NewReader(text), func(job.Progress) {}); !errors.Is(err, errWire) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := readAnswer(strings.NewReader(result(image)+"ab"), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	long := strings.Repeat("é", maxCause)
	text, err := encodeLine(line{Error: job.Errorf(job.Internal, "%s", long), Cause: long})
	if err != nil {
		t.Fatal(err)
	}
	a, err = readAnswer(bytes.NewReader(text), nil)
	if err != nil || len(a.Error.Message) > maxCause+3 || len(a.Error.Err.Error()) > maxCause+3 {
		t.Errorf("%v", err)
	}
}

// Whatever a process says, the other reads it or refuses it, and takes no more
// memory than was sent to it.
func FuzzReadAnswer(f *testing.F) {
	f.Add([]byte(`{"progress":{"stage":"denoise","step":2,"steps":3}}` + "\n" + `{"result":{"images":[{"bytes":3,"format":"png","width":64,"height":64}]}}` + "\nabc"))
	f.Add([]byte(`{"error":{"code":"internal","message":"x"},"cause":"y","cancelled":true}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readAnswer(bytes.NewReader(data), func(p job.Progress) {
			if p.Step < 0 || p.Step > p.Steps {
				t.Error(p)
			}
		})
		if (a == nil) == (err == nil) {
			t.Fatal(a, err)
		}
		if err != nil || a.result == nil {
			return
		}
		limits := job.HardLimits()
		for _, image := range a.result.Images {
			if len(image.Data) == 0 || image.Width > limits.Width || image.Height > limits.Height {
				t.Errorf("%d bytes, %d x %d", len(image.Data), image.Width, image.Height)
			}
		}
	})
}

func FuzzReadQuestion(f *testing.F) {
	f.Add([]byte(`{"job":{"version":1,"id":"a","prompt":"p"},"input_bytes":3,"mask_bytes":2}` + "\nabcde"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := readQuestion(bytes.NewReader(data))
		if err == nil && (r.Job == nil || len(r.Input)+len(r.Mask) > len(data)) {
			t.Error(r)
		}
	})
}

func FuzzForwardLogs(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-01T00:00:00Z","level":"INFO","msg":"x","n":1,"g":{"a":[1,null]}}` + "\nplain\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var out bytes.Buffer
		forward(bytes.NewReader(data), newTestLogger(&out))
		for line := range bytes.Lines(out.Bytes()) {
			if !json.Valid(line) {
				t.Errorf("%q became %q", data, line)
			}
		}
	})
}
