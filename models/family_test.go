package models_test

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models"
)

// input is an input of a graph; sizes below zero are dynamic.
type input struct {
	name string
	dims []int64
}

// unetGraph is an ONNX file with inputs and nothing else.
func unetGraph(inputs ...input) []byte {
	field := func(n protowire.Number, parts ...[]byte) []byte {
		var body []byte
		for _, p := range parts {
			body = append(body, p...)
		}
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), body)
	}
	number := func(n protowire.Number, v int64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), uint64(v))
	}
	var graph []byte
	for _, in := range inputs {
		var dims []byte
		for _, d := range in.dims {
			if d < 0 {
				dims = append(dims, field(1, field(2, []byte("batch")))...)
			} else {
				dims = append(dims, field(1, number(1, d))...)
			}
		}
		graph = append(graph, field(11, field(1, []byte(in.name)), field(2, field(1, number(1, 1), field(2, dims))))...)
	}
	return append(append(number(1, 8), field(7, graph)...), field(8, number(2, 17))...)
}

func sample(channels int64) input { return input{"sample", []int64{-1, channels, -1, -1}} }

func text(width int64) input { return input{"encoder_hidden_states", []int64{-1, -1, width}} }

func TestFamilyByClassAndShapes(t *testing.T) {
	step := input{"timestep", nil}
	pooled := input{"text_embeds", []int64{-1, 1280}}
	ids := func(n int64) input { return input{"time_ids", []int64{-1, n}} }
	class := func(name string) string { return `{"_class_name": "` + name + `"}` }
	const euler = `{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}`
	tests := []struct {
		name  string
		index string // the text of model_index.json; empty: there is none
		files map[string]string
		unet  []byte
		want  models.Family
		says  string
	}{
		{"SD 1 by shape", "", nil, unetGraph(sample(4), step, text(768)), models.SD1, ""},
		{"SD 2 by shape", "", nil, unetGraph(sample(4), step, text(1024)), models.SD2, ""},
		{"SDXL by shape", "", nil, unetGraph(sample(4), step, text(2048), pooled, ids(6)), models.SDXL, ""},
		{"refiner by shape", "", nil, unetGraph(sample(4), step, text(1280), pooled, ids(5)), models.SDXLRefiner, ""},
		{"guidance embedding by shape", "", nil, unetGraph(sample(4), step, text(768), input{"timestep_cond", []int64{-1, 256}}), models.LCM, ""},
		{"inpainting by shape", "", nil, unetGraph(sample(9), step, text(768)), models.Inpaint, ""},
		{"instructions by shape", "", nil, unetGraph(sample(8), step, text(768)), models.Pix2Pix, ""},
		{"configuration before the graph", "", map[string]string{"unet/config.json": `{"in_channels": 9, "cross_attention_dim": 768}`}, unetGraph(), models.Inpaint, ""},
		{"a width per block", "", map[string]string{"unet/config.json": `{"in_channels": 4, "cross_attention_dim": [1024, 1024]}`}, unetGraph(), models.SD2, ""},
		{"unknown class, known shape", class("CustomPipeline"), nil, unetGraph(sample(4), step, text(2048)), models.SDXL, ""},

		{"old converter", class("OnnxStableDiffusionPipeline"), nil, unetGraph(sample(4), step, text(768)), models.SD1, ""},
		{"old converter, inpainting", class("OnnxStableDiffusionInpaintPipeline"), nil, unetGraph(sample(9), step, text(768)), models.Inpaint, ""},
		{"inpainting pipeline of an ordinary UNet", class("StableDiffusionInpaintPipeline"), nil, unetGraph(sample(4), step, text(768)), models.SD1, ""},
		{"inpainting with all axes dynamic", class("StableDiffusionInpaintPipeline"), nil, unetGraph(sample(-1), step, text(768)), models.Inpaint, ""},
		{"optimum's own class", class("ORTStableDiffusionXLPipeline"), nil, unetGraph(sample(4), step, text(2048), pooled, ids(6)), models.SDXL, ""},
		{"SDXL saved for photos", class("StableDiffusionXLImg2ImgPipeline"), nil, unetGraph(sample(4), step, text(2048), pooled, ids(6)), models.SDXL, ""},
		{"refiner by its sizes", class("StableDiffusionXLImg2ImgPipeline"), nil, unetGraph(sample(4), step, text(64), pooled, ids(5)), models.SDXLRefiner, ""},
		{"refiner by its score", `{"_class_name": "StableDiffusionXLImg2ImgPipeline", "requires_aesthetics_score": true}`, nil, unetGraph(sample(4)), models.SDXLRefiner, ""},
		{
			"refiner by its one encoder", class("StableDiffusionXLImg2ImgPipeline"), map[string]string{"text_encoder_2/model.onnx": ""},
			unetGraph(sample(4), step, text(64)), models.SDXLRefiner, "",
		},
		{"turbo", class("StableDiffusionXLPipeline"), map[string]string{"scheduler/scheduler_config.json": euler}, unetGraph(sample(4), step, text(2048)), models.Turbo, ""},
		{"v-prediction", class("StableDiffusionPipeline"), map[string]string{"scheduler/scheduler_config.json": `{"prediction_type": "v_prediction"}`}, unetGraph(sample(4)), models.SD2, ""},
		{"LCM's scheduler", class("StableDiffusionPipeline"), map[string]string{"scheduler/scheduler_config.json": `{"_class_name": "LCMScheduler"}`}, unetGraph(sample(4)), models.LCM, ""},

		{"SD 3", class("StableDiffusion3Pipeline"), nil, unetGraph(sample(16)), "", "StableDiffusion3Pipeline"},
		{"Flux", class("FluxPipeline"), map[string]string{"transformer/model.onnx": ""}, nil, "", "FluxPipeline"},
		{"upscaler", class("StableDiffusionUpscalePipeline"), nil, unetGraph(sample(7)), "", "StableDiffusionUpscalePipeline"},
		{"seven channels", class("StableDiffusionPipeline"), nil, unetGraph(sample(7)), "", "7 channels"},
		{"unknown width", "", nil, unetGraph(sample(4), step, text(4096)), "", "width 4096"},
		{"another model", "", nil, unetGraph(input{"pixels", []int64{-1, 3}}), "", "encoder_hidden_states"},
		{"no model at all", "", nil, nil, "", "no model in the layout"},
		{"broken index", "{", nil, unetGraph(sample(4)), "", "model_index.json"},
		{"broken graph", "", nil, []byte("text"), "", "unet/model.onnx"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "m")
			write(t, nil, dir, "README.md")
			if tt.index != "" {
				write(t, []byte(tt.index), dir, "model_index.json")
			}
			for name, data := range tt.files {
				write(t, []byte(data), dir, name)
			}
			if tt.unet != nil {
				write(t, tt.unet, dir, "unet", "model.onnx")
			}
			m, err := models.Open(dir)
			switch {
			case tt.says != "":
				if err == nil || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("got %v", err)
				}
			case err != nil:
				t.Error(err)
			case m.Manifest.Family != tt.want:
				t.Errorf("got %s", m.Manifest.Family)
			}
		})
	}
}
