package remote

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/job"
)

// What crosses between the processes is lines of JSON, and behind some of them
// raw bytes whose number the line gives: no base64, no copy of a picture that
// is not needed.
//
//	POST /generate   one question, then the photo and the mask
//	                 answers: lines of progress, one last line, the images
//	POST /classify   one picture's facts, then the picture; answers: one last line
//	POST /warmup     one inference.WarmUp; answers: one last line
//	GET  /status     answers: one hostStatus
//	GET  /alive      answers: 200
//
// The parent shuts its half of the connection to cancel; the last line comes
// in any case, and says that the engine no longer works for the job.

// maxLine bounds a line: a job is the largest, its 64 KiB escaped at worst.
const maxLine = 1 << 20

// maxLabels and maxDigest bound a classification.
const maxLabels, maxDigest = 1000, 100

// maxCause bounds the texts of an error, in bytes.
const maxCause = 4 << 10

// errWire: the other process does not speak the protocol.
var errWire = errors.New("the engine process sent what it should not")

// question is the first line of a generation.
type question struct {
	Job        *job.Job `json:"job"`
	InputBytes int64    `json:"input_bytes"`
	MaskBytes  int64    `json:"mask_bytes"`
}

// pictureFacts are the first line of a classification.
type pictureFacts struct {
	Target job.Target `json:"target"`
	Bytes  int64      `json:"bytes"`
}

// readPicture reads what the parent wants classified.
func readPicture(body io.Reader) (inference.Picture, error) {
	r := newReader(body)
	defer r.wipe()
	var f pictureFacts
	if err := r.line(&f); err != nil {
		return inference.Picture{}, err
	}
	if limit := job.HardLimits().InputBytes; f.Bytes < 1 || f.Bytes > limit {
		return inference.Picture{}, fmt.Errorf("%w: no picture, or one beyond %d bytes", errWire, limit)
	}
	data, err := r.bytes(f.Bytes)
	return inference.Picture{Data: data, Target: f.Target}, err
}

// line is one line of an answer. The last one has no progress.
type line struct {
	Progress *job.Progress `json:"progress,omitempty"`
	Result   *facts        `json:"result,omitempty"`
	// Classification is the answer to /classify.
	Classification *inference.Classification `json:"classification,omitempty"`
	Error          *job.Error                `json:"error,omitempty"`
	// Cause is the private part of the error, for the parent's log.
	Cause string `json:"cause,omitempty"`
	// Cancelled: the engine stopped because it was told to.
	Cancelled bool `json:"cancelled,omitempty"`
	// Broken: the engine is no good any more and wants to be started anew.
	Broken bool `json:"broken,omitempty"`
	// Models are those in memory, the last used first.
	Models []string `json:"models,omitempty"`
}

// facts are a result without the bytes of its images.
type facts struct {
	Images     []imageFacts   `json:"images"`
	Model      job.ModelInfo  `json:"model"`
	Parameters job.Parameters `json:"parameters"`
	Timings    job.Timings    `json:"timings_ms"`
	Engine     job.EngineInfo `json:"engine"`
}

type imageFacts struct {
	Bytes  int64      `json:"bytes"`
	Format job.Format `json:"format"`
	Width  int        `json:"width"`
	Height int        `json:"height"`
	Seed   int64      `json:"seed"`
}

// hostStatus is the answer to /status.
type hostStatus struct {
	inference.Status
	confinement
}

// confinement is what keeps the process from the network; "" is nothing, and
// then there is a reason.
type confinement struct {
	Confined   string `json:"confined"`
	Unconfined string `json:"unconfined,omitempty"`
}

// reader reads lines and the bytes behind them.
type reader struct{ *bufio.Reader }

func newReader(r io.Reader) reader { return reader{bufio.NewReaderSize(r, 16<<10)} }

// wipe overwrites the buffer, which held the beginning of a photo.
func (r reader) wipe() {
	r.Reset(readerFunc(func(p []byte) (int, error) { clear(p); return len(p), nil }))
	_, _ = r.Peek(r.Size()) // of zeros there is no end
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// line reads one line into v.
func (r reader) line(v any) error {
	var text []byte
	defer func() { clear(text) }()
	for {
		part, err := r.ReadSlice('\n')
		text = append(text, part...)
		if len(text) > maxLine {
			return fmt.Errorf("%w: a line of more than %d bytes", errWire, maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		break
	}
	// What the line holds may be a prompt: the error does not quote it.
	if json.Unmarshal(text, v) != nil {
		return fmt.Errorf("%w: a line that is not the JSON it should be", errWire)
	}
	return nil
}

// bytes reads n bytes straight into memory of their own; none are nil.
func (r reader) bytes(n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}

// readQuestion reads what the parent asks. Progress is left nil.
func readQuestion(body io.Reader) (inference.Request, error) {
	r := newReader(body)
	defer r.wipe()
	var q question
	if err := r.line(&q); err != nil {
		return inference.Request{}, err
	}
	limit := job.HardLimits().InputBytes
	if q.Job == nil || q.InputBytes < 0 || q.InputBytes > limit || q.MaskBytes < 0 || q.MaskBytes > limit {
		return inference.Request{}, fmt.Errorf("%w: no job, or a photo beyond %d bytes", errWire, limit)
	}
	input, err := r.bytes(q.InputBytes)
	if err != nil {
		return inference.Request{}, err
	}
	mask, err := r.bytes(q.MaskBytes)
	if err != nil {
		clear(input)
		return inference.Request{}, err
	}
	return inference.Request{Job: q.Job, Input: input, Mask: mask}, nil
}

// answer is the last line and what came behind it.
type answer struct {
	line
	result *inference.Result
}

// readAnswer reads a whole answer. The child reads strangers' photos and
// models, so nothing that it says is taken on trust.
func readAnswer(body io.Reader, progress func(job.Progress)) (*answer, error) {
	r := newReader(body)
	defer r.wipe()
	for {
		var l line
		if err := r.line(&l); err != nil {
			return nil, err
		}
		if l.Progress != nil {
			if p := *l.Progress; slices.Contains(job.Stages(), p.Stage) && p.Step >= 0 && p.Step <= p.Steps {
				progress(p)
				continue
			}
			return nil, fmt.Errorf("%w: no such progress", errWire)
		}
		a := &answer{line: l}
		if e := l.Error; e != nil {
			if !isCode(e.Code) {
				return nil, fmt.Errorf("%w: no such code", errWire)
			}
			e.Message = bounded(e.Message)
			if l.Cause != "" {
				e.Err = errors.New(bounded(l.Cause))
			}
			return a, nil
		}
		if c := l.Classification; c != nil && (len(c.Scores) > maxLabels || len(c.Digest) > maxDigest) {
			return nil, fmt.Errorf("%w: no such classification", errWire)
		}
		if l.Result == nil {
			return a, nil
		}
		var err error
		if a.result, err = l.Result.read(r); err != nil {
			return nil, err
		}
		return a, nil
	}
}

func (f *facts) read(r reader) (*inference.Result, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	result := &inference.Result{Model: f.Model, Parameters: f.Parameters, Timings: f.Timings, Engine: f.Engine}
	for _, image := range f.Images {
		data, err := r.bytes(image.Bytes)
		if err != nil {
			for _, earlier := range result.Images {
				clear(earlier.Data)
			}
			return nil, err
		}
		result.Images = append(result.Images, inference.Image{
			Data: data, Format: image.Format, Width: image.Width, Height: image.Height, Seed: image.Seed,
		})
	}
	return result, nil
}

func (f *facts) check() error {
	limits := job.HardLimits()
	if len(f.Images) > limits.Images {
		return fmt.Errorf("%w: %d images", errWire, len(f.Images))
	}
	for _, image := range f.Images {
		// An encoded image can be a little larger than its pixels.
		most := 4*int64(image.Width)*int64(image.Height) + 64<<10
		if image.Width < 1 || image.Width > limits.Width || image.Height < 1 || image.Height > limits.Height ||
			image.Bytes < 1 || image.Bytes > most || !slices.Contains(job.Formats(), image.Format) {
			return fmt.Errorf("%w: no such image", errWire)
		}
	}
	for stage := range f.Timings {
		if !slices.Contains(job.Stages(), stage) {
			return fmt.Errorf("%w: no such stage", errWire)
		}
	}
	return nil
}

// isCode reports whether a code has a code's form: it becomes a label of
// metrics and a field in Redis.
func isCode(c job.Code) bool {
	return c != "" && len(c) <= 32 && strings.Trim(string(c), "abcdefghijklmnopqrstuvwxyz_") == ""
}

// bounded cuts a text from the other process to what is wanted of it.
func bounded(text string) string {
	if len(text) > maxCause {
		text = text[:maxCause] + "…"
	}
	return strings.ToValidUTF8(text, "�")
}
