package onnxfile_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models/onnxfile"
)

const testModels = "../../testdata/models"

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(testModels, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func parse(t testing.TB, data []byte) *onnxfile.Model {
	t.Helper()
	m, err := onnxfile.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestInputsAndOutputs(t *testing.T) {
	m := parse(t, read(t, "lcm/unet/model.onnx"))
	want := []onnxfile.Value{
		{Name: "sample", Type: onnxfile.Float32, Dims: []int64{-1, 4, -1, -1}},
		{Name: "timestep", Type: onnxfile.Float32},
		{Name: "encoder_hidden_states", Type: onnxfile.Float32, Dims: []int64{-1, -1, 32}},
		{Name: "timestep_cond", Type: onnxfile.Float32, Dims: []int64{-1, 64}},
	}
	if diff := cmp.Diff(want, m.Inputs); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]onnxfile.Value{{Name: "out_sample", Type: onnxfile.Float32, Dims: []int64{-1, 4, -1, -1}}}, m.Outputs); diff != "" {
		t.Error(diff)
	}
}

func TestUnchangedModelIsByteEqual(t *testing.T) {
	data := read(t, "sd1/unet/model.onnx")
	if !bytes.Equal(parse(t, data).Encode(), data) {
		t.Error("reading and writing a model changed it")
	}
}

func TestVectorTimestepOfAScalar(t *testing.T) {
	m := parse(t, read(t, "sd1/unet/model.onnx"))
	nodes := len(m.Nodes)
	if changed, err := m.VectorTimestep("timestep"); err != nil || !changed {
		t.Fatal(changed, err)
	}
	again := parse(t, m.Encode())
	if diff := cmp.Diff([]int64{-1}, again.Inputs[1].Dims); diff != "" {
		t.Error(diff)
	}
	if len(again.Nodes) != nodes-1 {
		t.Errorf("%d nodes of %d are left", len(again.Nodes), nodes)
	}
	if changed, err := again.VectorTimestep("timestep"); changed || err != nil {
		t.Error("a vector was edited again", err)
	}
}

func TestVectorTimestepRefusesOtherPrologues(t *testing.T) {
	m := parse(t, read(t, "sd1/unet/model.onnx"))
	for _, input := range []string{"sample", "nothing"} {
		if _, err := m.VectorTimestep(input); !errors.Is(err, onnxfile.ErrPrologue) {
			t.Errorf("%s: %v", input, err)
		}
	}
	if !bytes.Equal(m.Encode(), read(t, "sd1/unet/model.onnx")) {
		t.Error("a refused edit changed the model")
	}
}

func TestSkipLayers(t *testing.T) {
	m := parse(t, read(t, "sd1/text_encoder/model.onnx"))
	name := func(n int) string { return "skip" + string(rune('0'+n)) }
	added, err := m.SkipLayers("last_hidden_state", 8, name)
	if err != nil || added != 3 { // two layers before the last, and the embeddings
		t.Fatal(added, err)
	}
	again := parse(t, m.Encode())
	var names []string
	for _, o := range again.Outputs {
		names = append(names, o.Name)
	}
	if diff := cmp.Diff([]string{"last_hidden_state", "pooler_output", "skip1", "skip2", "skip3"}, names); diff != "" {
		t.Error(diff)
	}
	unet := parse(t, read(t, "sd1/unet/model.onnx"))
	if _, err := unet.SkipLayers("nothing", 8, name); !errors.Is(err, onnxfile.ErrLayers) {
		t.Error(err)
	}
}

func TestBrokenFiles(t *testing.T) {
	data := read(t, "sd1/text_encoder/model.onnx")
	for name, broken := range map[string][]byte{
		"empty": {}, "text": []byte("this is no model at all"), "cut": data[:len(data)/2],
		"no graph": protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 8),
	} {
		if _, err := onnxfile.Parse(broken); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	data := read(f, "sd1/vae_decoder/model.onnx")
	f.Add(data[:2000])
	f.Add([]byte{0x3a, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := onnxfile.Parse(data)
		if err != nil {
			return
		}
		_, _ = m.VectorTimestep("timestep")
		_, _ = m.SkipLayers("out", 2, func(int) string { return "s" })
		if _, err := onnxfile.Parse(m.Encode()); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
	})
}
