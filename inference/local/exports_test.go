package local_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/inference/local"
	"github.com/imgus/worker/internal/goldentest"
	"github.com/imgus/worker/internal/onnxtest"
	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models"
	"github.com/imgus/worker/models/onnxfile"
)

// flavour is a model as another exporter writes it.
type flavour struct {
	name  string
	model string // of testdata/models
	// changes by file.
	changes map[string][]onnxtest.Change
	// vector: the UNet's timestep is a vector before the changes.
	vector bool
	// external: the weights stand in a file beside the model.
	external bool
	jobs     []string // of the golden ones
	// most and mean bound the difference; zero are the golden test's.
	most int
	mean float64
}

const dynamic = onnxfile.Dynamic

func half(names ...string) []onnxtest.Change {
	var changes []onnxtest.Change
	for _, name := range names {
		changes = append(changes, onnxtest.Change{Name: name, Type: onnxfile.Float16})
	}
	return changes
}

var flavours = []flavour{
	{
		name: "external data", model: "sd1", external: true, jobs: []string{"sd1-euler", "sd1-clipskip", "sd1-i2i-euler"},
		changes: map[string][]onnxtest.Change{"unet": nil, "text_encoder": nil, "vae_decoder": nil, "vae_encoder": nil},
	},
	{
		name: "int64 vector timestep", model: "sd1", vector: true, jobs: []string{"sd1-ddim", "sd1-two"},
		changes: map[string][]onnxtest.Change{"unet": {{Name: "timestep", Type: onnxfile.Int64}}},
	},
	{
		name: "static timestep", model: "sd1", vector: true, jobs: []string{"sd1-euler", "sd1-two"},
		changes: map[string][]onnxtest.Change{"unet": {{Name: "timestep", Dims: []int64{1}}}},
	},
	{
		name: "int32 token ids", model: "sd1", jobs: []string{"sd1-negative", "sd1-clipskip"},
		changes: map[string][]onnxtest.Change{"text_encoder": {{Name: "input_ids", Type: onnxfile.Int32}}},
	},
	{
		name: "names of the ORT demo", model: "sd1", jobs: []string{"sd1-euler", "sd1-i2i-euler"},
		changes: map[string][]onnxtest.Change{
			"text_encoder": {{Name: "last_hidden_state", As: "text_embeddings"}},
			"unet":         {{Name: "out_sample", As: "latent"}},
			"vae_decoder":  {{Name: "latent_sample", As: "latent"}, {Name: "sample", As: "images"}},
			"vae_encoder":  {{Name: "sample", As: "images"}},
		},
	},
	{
		name: "every axis dynamic", model: "sdxl", jobs: []string{"sdxl-default", "sdxl-i2i"},
		changes: map[string][]onnxtest.Change{
			"unet": {
				{Name: "sample", Dims: []int64{dynamic, dynamic, dynamic, dynamic}}, {Name: "encoder_hidden_states", Dims: []int64{dynamic, dynamic, dynamic}},
				{Name: "text_embeds", Dims: []int64{dynamic, dynamic}}, {Name: "time_ids", Dims: []int64{dynamic, dynamic}},
			},
			"text_encoder": {{Name: "hidden_states.2", Dims: []int64{dynamic, dynamic, dynamic}}},
			"vae_encoder":  {{Name: "latent_parameters", Dims: []int64{dynamic, dynamic, dynamic, dynamic}}},
		},
	},
	{
		name: "half precision", model: "sd1", vector: true, jobs: []string{"sd1-ddim", "sd1-two", "sd1-i2i-euler"}, most: 90, mean: 4,
		changes: map[string][]onnxtest.Change{
			"text_encoder": half("last_hidden_state", "pooler_output"),
			"unet":         half("sample", "timestep", "encoder_hidden_states", "out_sample"),
			"vae_decoder":  half("latent_sample", "sample"),
			"vae_encoder":  half("sample", "latent_parameters"),
		},
	},
}

func TestExports(t *testing.T) {
	dir := t.TempDir()
	for i, f := range flavours {
		f.write(t, filepath.Join(dir, fmt.Sprint("flavour", i)))
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(dir), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	golden := map[string]*job.Job{}
	for _, j := range goldentest.Jobs(t) {
		golden[j.ID] = j
	}
	for i, f := range flavours {
		for _, id := range f.jobs {
			t.Run(f.name+"/"+id, func(t *testing.T) {
				j := *golden[id]
				j.Model = fmt.Sprint("flavour", i)
				result, err := e.Generate(t.Context(), request(t, &j))
				if err != nil {
					t.Fatal(err)
				}
				for i, img := range result.Images {
					most, mean := goldentest.Difference(t, img.Data, goldentest.File(t, fmt.Sprintf("%s-%d.png", id, i)))
					if most > max(f.most, goldentest.Most) || mean > max(f.mean, goldentest.Mean) {
						t.Errorf("image %d differs by at most %d, on average %.4f", i, most, mean)
					}
				}
			})
		}
	}
}

// A half-precision decoder that overflows makes room for the one in full
// precision that the model offers; without that the job fails.
func TestDecoderThatOverflows(t *testing.T) {
	dir := t.TempDir()
	latents := onnxfile.Value{Name: "latent_sample", Type: onnxfile.Float16, Dims: []int64{dynamic, 4, dynamic, dynamic}}
	pixels := onnxfile.Value{Name: "sample", Type: onnxfile.Float16, Dims: []int64{1, 3, 64, 64}}
	const infinity = 0x7c00
	for _, name := range []string{"without", "with"} {
		model := filepath.Join(dir, name)
		if err := os.CopyFS(model, os.DirFS(filepath.Join(testModels, "sd1"))); err != nil {
			t.Fatal(err)
		}
		decoder := filepath.Join(model, "vae_decoder", "model.onnx")
		if name == "with" {
			wide := filepath.Join(model, "vae_decoder_fp32")
			if err := os.CopyFS(wide, os.DirFS(filepath.Dir(decoder))); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(decoder, onnxtest.ConstantHalf(t, latents, pixels, infinity), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	e, err := local.Open(local.Options{
		Library: testservices.ONNXRuntime(t), Devices: []string{"cpu"}, Catalogue: models.New(dir), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for _, j := range goldentest.Jobs(t) {
		if j.ID != "sd1-euler" {
			continue
		}
		j.Model = "with"
		result, err := e.Generate(t.Context(), request(t, j))
		if err != nil {
			t.Fatal(err)
		}
		if most, mean := goldentest.Difference(t, result.Images[0].Data, goldentest.File(t, "sd1-euler-0.png")); most > goldentest.Most || mean > goldentest.Mean {
			t.Errorf("differs by at most %d, on average %.4f", most, mean)
		}
		j.Model = "without"
		if _, err := e.Generate(t.Context(), request(t, j)); job.AsError(err).Code != job.BadOutput {
			t.Errorf("got %v", err)
		}
	}
}

func (f flavour) write(t *testing.T, dir string) {
	t.Helper()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(testModels, f.model))); err != nil {
		t.Fatal(err)
	}
	for component, changes := range f.changes {
		file := filepath.Join(dir, component, "model.onnx")
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if component == "unet" && f.vector {
			m, err := onnxfile.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.VectorTimestep("timestep"); err != nil {
				t.Fatal(err)
			}
			data = m.Encode()
		}
		data = onnxtest.Reexport(t, data, changes...)
		if f.external {
			data = onnxtest.Externalize(t, data, filepath.Dir(file), "model.onnx_data")
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClipSkipOfMoreLayersThanThereAre(t *testing.T) {
	e := open(t)
	j := small("a")
	j.ClipSkip = new(4)
	_, err := e.Generate(t.Context(), request(t, j))
	if err == nil || !strings.Contains(err.Error(), "clip_skip") || job.AsError(err).Code != job.InvalidJob {
		t.Errorf("got %v", err)
	}
}
