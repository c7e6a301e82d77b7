package local_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/color"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/imaging"
	"github.com/imgus/worker/inference"
	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/onnxtest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
)

// means writes a classifier whose scores are the means of a picture's channels.
// More are lines of its manifest instead of those that have the same beginning.
func means(t testing.TB, more ...string) string {
	t.Helper()
	dir := t.TempDir()
	model := onnxtest.ChannelMeans("pixels", "scores", 8, 8)
	if err := os.WriteFile(filepath.Join(dir, "model.onnx"), model, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(model)
	lines := []string{
		"name: means", "resize: {width: 8, height: 8, filter: box}", "input: {width: 8, height: 8, layout: nchw, channels: rgb, scale: 0.00392156862745098}",
		"output: {activation: none, labels: [red, green, blue]}", "thresholds: {red: 0.5}", "files: {model.onnx: " + hex.EncodeToString(sum[:]) + "}",
	}
	for _, m := range more {
		key, _, _ := strings.Cut(m, ":")
		found := false
		for i, line := range lines {
			if strings.HasPrefix(line, key+":") {
				lines[i], found = m, true
			}
		}
		if !found {
			lines = append(lines, m)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "classifier.yaml"), []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// stripes is a picture of three vertical parts: the middle one of the colour, the
// others black.
func stripes(t testing.TB, w, h int, middle color.NRGBA) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		c := color.NRGBA{A: 255}
		if x := i % w; w/4 <= x && x < w-w/4 {
			c = middle
		}
		img.SetNRGBA(i%w, i/w, c)
	}
	data, err := imaging.Encode(img, "png", 0)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestClassify(t *testing.T) {
	orange := color.NRGBA{255, 127, 51, 255}
	logistic := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	const scale = 0.00392156862745098
	for name, tt := range map[string]struct {
		manifest         []string
		w, h             int
		red, green, blue float64
	}{
		"plain":       {nil, 16, 16, 0.5, 127. / 510, 0.1},
		"larger":      {nil, 160, 80, 0.5, 127. / 510, 0.1},
		"middle":      {[]string{"resize: {width: 16, height: 8, filter: box}"}, 16, 8, 1, 127. / 255, 0.2},
		"shorter":     {[]string{"resize: {shorter: 8, filter: box}"}, 32, 16, 1, 127. / 255, 0.2},
		"very wide":   {[]string{"resize: {shorter: 8, filter: box}"}, 16000, 1, 1, 127. / 255, 0.2},
		"bgr":         {[]string{fmt.Sprintf("input: {width: 8, height: 8, layout: nchw, channels: bgr, scale: %v}", scale)}, 16, 16, 0.1, 127. / 510, 0.5},
		"normalised":  {[]string{fmt.Sprintf("input: {width: 8, height: 8, layout: nchw, channels: rgb, scale: %v, mean: [0.5, 0, 0.05], std: [1, 2, 0.5]}", scale)}, 16, 16, 0, 127. / 1020, 0.1},
		"sigmoid":     {[]string{"output: {activation: sigmoid, labels: [red, green, blue]}"}, 16, 16, logistic(0.5), logistic(127. / 510), logistic(0.1)},
		"softmax":     {[]string{"output: {activation: softmax, labels: [red, green, blue]}"}, 16, 16, math.Exp(0.5) / (math.Exp(0.5) + math.Exp(127./510) + math.Exp(0.1)), math.Exp(127./510) / (math.Exp(0.5) + math.Exp(127./510) + math.Exp(0.1)), math.Exp(0.1) / (math.Exp(0.5) + math.Exp(127./510) + math.Exp(0.1))},
		"as if JPEG":  {[]string{"jpeg: 100"}, 16, 16, 0.5, 127. / 510, 0.1},
		"transparent": {nil, 16, 16, 0.5, 127. / 510, 0.1},
	} {
		t.Run(name, func(t *testing.T) {
			e := withClassifier(t, means(t, tt.manifest...))
			for range 2 { // nothing of the first is in the second
				c, err := e.Classify(t.Context(), inference.Picture{Data: stripes(t, tt.w, tt.h, orange), Target: job.TargetInput})
				if err != nil {
					t.Fatal(err)
				}
				for label, want := range map[string]float64{"red": tt.red, "green": tt.green, "blue": tt.blue} {
					if math.Abs(c.Scores[label]-want) > 0.03 { // JPEG halves the chroma
						t.Errorf("%s is %v, want %v", label, c.Scores[label], want)
					}
				}
				if len(c.Scores) != 3 || !strings.HasPrefix(c.Digest, "sha256:") || len(c.Digest) != 71 {
					t.Errorf("got %+v", c)
				}
			}
		})
	}
}

func TestClassifyRefuses(t *testing.T) {
	c, err := models.OpenClassifier(means(t))
	if err != nil {
		t.Fatal(err)
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), Classifier: c,
		Limits: job.Limits{InputPixels: 100}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	large := stripes(t, 16, 16, color.NRGBA{A: 255})
	for name, tt := range map[string]struct {
		target job.Target
		data   []byte
		want   job.Code // "" is none
	}{
		"a photo above the limit":  {job.TargetInput, large, job.InputTooLarge},
		"a result above the limit": {job.TargetOutput, large, ""},
		"no photo":                 {job.TargetInput, []byte("GIF"), job.InputInvalid},
		"no result":                {job.TargetOutput, []byte("GIF"), job.EngineFailed},
	} {
		_, err := e.Classify(t.Context(), inference.Picture{Data: tt.data, Target: tt.target})
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || job.AsError(err).Code != tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	over, cancel := context.WithCancelCause(t.Context())
	cancel(job.ErrCancelled)
	if _, err := e.Classify(over, inference.Picture{Data: large, Target: job.TargetOutput}); !errors.Is(err, job.ErrCancelled) {
		t.Errorf("got %v", err)
	}
	b := newBench(t, local.Options{}, false)
	if _, err := b.Classify(t.Context(), inference.Picture{Data: large}); err == nil || job.AsError(err).Code != job.EngineFailed {
		t.Errorf("without a classifier: %v", err)
	}
}

// An engine whose classifier does not fit its manifest does not start.
func TestClassifierThatCannotRun(t *testing.T) {
	for name, tt := range map[string]struct{ manifest, want string }{
		"shape":  {"input: {width: 6, height: 6, layout: nchw, channels: rgb}", "the manifest says [1 3 6 6]"},
		"layout": {"input: {width: 8, height: 8, layout: nhwc, channels: rgb}", "the manifest says [1 8 8 3]"},
		"labels": {"output: {activation: none, labels: [red, green]}", "the manifest says [1 2]"},
	} {
		c, err := models.OpenClassifier(means(t, tt.manifest))
		if err != nil {
			t.Fatal(err)
		}
		e, err := local.Open(local.Options{
			Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(testModels), Classifier: c, Log: slog.New(slog.DiscardHandler),
		})
		if err == nil {
			e.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
