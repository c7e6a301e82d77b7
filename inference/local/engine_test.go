package local_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/internal/goldentest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// small is a job that takes a few milliseconds.
func small(id string) *job.Job {
	return &job.Job{
		Version: 1, ID: id, Kind: job.TextToImage, Model: "sd1", Prompt: new("a small red circle on a blue background"),
		Steps: new(2), Width: new(64), Height: new(64), Scheduler: new("euler"),
	}
}

func encodePNG(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range img.Pix {
		img.Pix[i] = uint8(i * 7)
	}
	for i := 3; i < len(img.Pix); i += 4 {
		img.Pix[i] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRefusals(t *testing.T) {
	e := open(t)
	photo := func(j *job.Job) { j.Kind, j.Input, j.Width, j.Height = job.ImageToImage, new("x"), nil, nil }
	tests := []struct {
		name   string
		change func(r *inference.Request)
		code   job.Code
		says   string
	}{
		{"unknown model", func(r *inference.Request) { r.Job.Model = "nothing" }, job.UnknownModel, "sd1"},
		{"odd size", func(r *inference.Request) { r.Job.Width, r.Job.Height = new(100), new(72) }, job.InvalidJob, "width: must be a multiple of 16 for this model; the nearest is 96; height: must be a multiple of 16 for this model; the nearest is 80"},
		{"clip skip", func(r *inference.Request) { r.Job.ClipSkip = new(8) }, job.InvalidJob, "clip_skip"},
		{"steps of a scheduler", func(r *inference.Request) { r.Job.Steps, r.Job.Scheduler = new(60), new("lcm") }, job.InvalidJob, "50"},
		{"no step left", func(r *inference.Request) { photo(r.Job); r.Job.Strength, r.Input = new(0.1), encodePNG(t, 64, 64) }, job.InvalidJob, "must be at least 1"},
		{"text as photo", func(r *inference.Request) { photo(r.Job); r.Input = []byte("hello, this is text") }, job.InputInvalid, "input: "},
		{"one byte", func(r *inference.Request) { photo(r.Job); r.Input = []byte{0xff} }, job.InputInvalid, "input: "},
		{"empty", func(r *inference.Request) { photo(r.Job) }, job.InputInvalid, "input: "},
		{"truncated", func(r *inference.Request) { photo(r.Job); p := encodePNG(t, 64, 64); r.Input = p[:len(p)/2] }, job.InputInvalid, "input: "},
		{"huge", func(r *inference.Request) { photo(r.Job); r.Input = hugePNG(t) }, job.InputTooLarge, "input: "},
		{"long prompt", func(r *inference.Request) {
			r.Job.PromptSyntax, r.Job.Prompt = new(job.Weighted), new(strings.Repeat("BREAK a ", 40))
		}, job.InvalidJob, "32 chunks"},
		{"second prompt", func(r *inference.Request) { r.Job.Prompt2, r.Job.Crop = new("x"), new([2]int{}) }, job.InvalidJob, "prompt_2, negative_prompt_2: the model has no second text encoder; original_size"},
		{"wrong kind of model", func(r *inference.Request) { r.Job.Model = "pix2pix" }, job.InvalidJob, "image-to-image alone"},
		{"inpaint model", func(r *inference.Request) { r.Job.Model = "inpaint9" }, job.InvalidJob, "inpaint alone"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := inference.Request{Job: small("a")}
			tt.change(&r)
			_, err := e.Generate(t.Context(), r)
			known, ok := errors.AsType[*job.Error](err)
			if !ok || known.Code != tt.code || !strings.Contains(known.Message, tt.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := e.Generate(t.Context(), inference.Request{Job: small("b")}); err != nil {
		t.Errorf("the engine does not go on: %v", err)
	}
}

// hugePNG is a header of 40,000 x 40,000 pixels and hardly any data.
func hugePNG(t *testing.T) []byte {
	t.Helper()
	data := encodePNG(t, 1, 1)
	copy(data[16:24], []byte{0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40})
	copy(data[29:33], crc(data[12:29]))
	return data
}

func TestDefaultsAreFilledIn(t *testing.T) {
	e := open(t)
	j := &job.Job{Version: 1, ID: "abc", Kind: job.TextToImage, Model: "turbo", Prompt: new("")}
	result, err := e.Generate(t.Context(), inference.Request{Job: j})
	if err != nil {
		t.Fatal(err)
	}
	want := job.Parameters{
		PromptSyntax: job.Plain, Width: 64, Height: 64, Steps: 1, Seed: 0xba7816bf, Images: 1, Scheduler: "euler-a",
		Output: job.EffectiveOutput{Format: job.PNG, Quality: 90},
	}
	if diff := cmp.Diff(want, result.Parameters); diff != "" {
		t.Error(diff)
	}
	if result.Model.Family != "turbo" || !strings.HasPrefix(result.Model.Digest, "sha256:") || result.Engine.Provider != "CPUExecutionProvider" {
		t.Errorf("facts are %+v, %+v", result.Model, result.Engine)
	}
}

func TestPhotoGivesTheSize(t *testing.T) {
	e := open(t)
	for _, tt := range []struct{ w, h, wantW, wantH int }{{64, 64, 64, 64}, {100, 70, 96, 64}, {20, 300, 64, 288}, {4000, 100, 2048, 64}} {
		j := small("a")
		j.Kind, j.Input, j.Width, j.Height, j.Strength = job.ImageToImage, new("x"), nil, nil, new(0.5)
		result, err := e.Generate(t.Context(), inference.Request{Job: j, Input: encodePNG(t, tt.w, tt.h)})
		if err != nil {
			t.Fatal(err)
		}
		if p := result.Parameters; p.Width != tt.wantW || p.Height != tt.wantH || *p.Strength != 0.5 {
			t.Errorf("%d x %d became %d x %d", tt.w, tt.h, p.Width, p.Height)
		}
	}
}

// A picture does not depend on the batch it was made in.
func TestImagesOfAJobAreThoseOfTheirSeeds(t *testing.T) {
	e := open(t)
	four := small("a")
	four.Images, four.Seed, four.Scheduler = new(4), new(int64(7)), new("euler-a")
	together, err := e.Generate(t.Context(), inference.Request{Job: four})
	if err != nil {
		t.Fatal(err)
	}
	for i, img := range together.Images {
		one := small("b")
		one.Seed, one.Scheduler = new(int64(7+i)), new("euler-a")
		alone, err := e.Generate(t.Context(), inference.Request{Job: one})
		if err != nil {
			t.Fatal(err)
		}
		most, mean := goldentest.Difference(t, img.Data, alone.Images[0].Data)
		if most > 1 || mean > 0.01 || img.Seed != int64(7+i) {
			t.Errorf("image %d, seed %d: differs by %d, on average %.4f", i, img.Seed, most, mean)
		}
	}
}

func TestFormats(t *testing.T) {
	e := open(t)
	for format, magic := range map[job.Format]string{job.PNG: "\x89PNG", job.JPEG: "\xff\xd8\xff", job.WebP: "RIFF"} {
		j := small("a")
		j.Output = &job.Output{Format: &format, Quality: new(80)}
		result, err := e.Generate(t.Context(), inference.Request{Job: j})
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(result.Images[0].Data, []byte(magic)) || result.Images[0].Format != format {
			t.Errorf("%s: begins with %q", format, result.Images[0].Data[:4])
		}
	}
}

func TestProgress(t *testing.T) {
	e := open(t)
	j := small("a")
	j.Steps, j.Scheduler = new(5), new("pndm")
	var stages []job.Stage
	var steps []int
	_, err := e.Generate(t.Context(), inference.Request{Job: j, Progress: func(p job.Progress) {
		if len(stages) == 0 || stages[len(stages)-1] != p.Stage {
			stages = append(stages, p.Stage)
		}
		if p.Stage == job.StageDenoise {
			steps = append(steps, p.Step)
			if p.Steps != 5 {
				t.Errorf("of %d steps", p.Steps)
			}
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []job.Stage{job.StageLoad, job.StageDecode, job.StageText, job.StageDenoise, job.StageVAE, job.StageEncode, job.StageVAE}
	if diff := cmp.Diff(want, stages); diff != "" {
		t.Error(diff)
	}
	// PNDM calls the model six times for five steps.
	if diff := cmp.Diff([]int{0, 0, 1, 2, 3, 4, 5}, steps); diff != "" {
		t.Error(diff)
	}
}

// What weights and chunks do to the numbers, the tokenizer's tests show; here
// it shows that they arrive.
func TestWeightedPrompts(t *testing.T) {
	e := open(t)
	picture := func(model, prompt string, syntax job.Syntax, change func(*job.Job)) []byte {
		j := small("a")
		j.Model, j.Seed, j.Prompt, j.PromptSyntax = model, new(int64(3)), &prompt, &syntax
		change(j)
		result, err := e.Generate(t.Context(), inference.Request{Job: j})
		if err != nil {
			t.Fatal(err)
		}
		return result.Images[0].Data
	}
	same := func(*job.Job) {}
	plain := picture("sd1", "a red circle", job.Plain, same)
	long := strings.Repeat("a small red circle on a blue background ", 12)
	for name, tt := range map[string]struct {
		got   []byte
		equal bool
	}{
		"no weights":    {picture("sd1", "a red circle", job.Weighted, same), true},
		"weight of one": {picture("sd1", "a (red:1.0) circle", job.Weighted, same), true},
		"a weight":      {picture("sd1", "a (red:1.3) circle", job.Weighted, same), false},
		"plain":         {picture("sd1", "a (red:1.3) circle", job.Plain, same), false},
		"two chunks":    {picture("sd1", "a red circle BREAK a red circle", job.Weighted, same), false},
	} {
		if got := bytes.Equal(tt.got, plain); got != tt.equal {
			t.Errorf("%s: equal to plain: %v", name, got)
		}
	}
	if bytes.Equal(picture("sd1", long, job.Plain, same), picture("sd1", long, job.Weighted, same)) {
		t.Error("a long prompt is cut though it is weighted")
	}
	sdxl := picture("sdxl", long, job.Weighted, func(j *job.Job) { j.NegativePrompt = new("blue") })
	for name, change := range map[string]func(*job.Job){
		"second prompt":          func(j *job.Job) { j.Prompt2 = new("a star") },
		"second negative prompt": func(j *job.Job) { j.NegativePrompt2 = new("a star") },
		"original size":          func(j *job.Job) { j.OriginalSize = new([2]int{512, 64}) },
		"target size":            func(j *job.Job) { j.TargetSize = new([2]int{64, 512}) },
		"crop":                   func(j *job.Job) { j.Crop = new([2]int{300, 0}) },
	} {
		if bytes.Equal(sdxl, picture("sdxl", long, job.Weighted, func(j *job.Job) { j.NegativePrompt = new("blue"); change(j) })) {
			t.Errorf("SDXL's %s changes nothing", name)
		}
	}
}

func TestCancel(t *testing.T) {
	e := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	j := small("a")
	j.Steps = new(150)
	_, err := e.Generate(ctx, inference.Request{Job: j, Progress: func(p job.Progress) {
		if p.Step == 3 {
			cancel(job.ErrCancelled)
		}
		if p.Step > 4 {
			t.Error("step", p.Step, "after the cancel")
		}
	}})
	if !errors.Is(err, job.ErrCancelled) {
		t.Fatalf("got %v", err)
	}
	if _, err := e.Generate(ctx, inference.Request{Job: small("b")}); !errors.Is(err, job.ErrCancelled) {
		t.Errorf("a job that is over was begun: %v", err)
	}
	if _, err := e.Generate(t.Context(), inference.Request{Job: small("c")}); err != nil {
		t.Error(err)
	}
}

func TestConcurrentUse(t *testing.T) {
	e := open(t)
	errs := make(chan error)
	for i := range 6 {
		go func() {
			_, err := e.Generate(t.Context(), inference.Request{Job: small(fmt.Sprint("job", i))})
			errs <- err
		}()
	}
	for range 6 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestDevicesThatCannotStart(t *testing.T) {
	for _, device := range []string{"gpu", "cuda:0"} {
		if device == "cuda:0" && hasGPU() {
			continue
		}
		_, err := local.Open(local.Options{
			Library: testservices.ONNXRuntime(t), Devices: []string{device}, Catalogue: models.New(testModels), Log: slog.New(slog.DiscardHandler),
		})
		if !errors.Is(err, onnx.ErrDevice) {
			t.Errorf("%s: %v", device, err)
		}
	}
}

func hasGPU() bool {
	_, err := os.Stat("/proc/driver/nvidia")
	return err == nil
}

func crc(chunk []byte) []byte { return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(chunk)) }
