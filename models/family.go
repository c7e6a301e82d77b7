package models

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
)

// Family says how a model is used.
type Family string

// The families.
const (
	SD1         Family = "sd1"
	SD2         Family = "sd2"
	SDXL        Family = "sdxl"
	SDXLRefiner Family = "sdxl-refiner"
	Turbo       Family = "turbo"
	LCM         Family = "lcm"
	Inpaint     Family = "inpaint"
	Pix2Pix     Family = "pix2pix"
)

// Families lists every family.
func Families() []Family {
	return []Family{SD1, SD2, SDXL, SDXLRefiner, Turbo, LCM, Inpaint, Pix2Pix}
}

// facts are what a model's JSON files tell about its family.
type facts struct {
	Class string
	UNet  struct {
		Channels       int  `json:"in_channels"`
		CrossAttention any  `json:"cross_attention_dim"`
		GuidanceWidth  *int `json:"time_cond_proj_dim"`
	}
	Scheduler struct {
		Class      string `json:"_class_name"`
		Prediction string `json:"prediction_type"`
		Spacing    string `json:"timestep_spacing"`
	}
}

func readFacts(fsys fs.FS) (facts, error) {
	var f facts
	var index struct {
		Class string `json:"_class_name"`
	}
	for name, into := range map[string]any{
		"model_index.json": &index, "unet/config.json": &f.UNet, "scheduler/scheduler_config.json": &f.Scheduler,
	} {
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			if name == "unet/config.json" {
				continue // old exports have none
			}
			return facts{}, fmt.Errorf("read %s: %w", name, err)
		}
		if err := json.Unmarshal(data, into); err != nil {
			return facts{}, fmt.Errorf("read %s: %w", name, err)
		}
	}
	f.Class = index.Class
	return f, nil
}

// findFamily finds the family of a model by its pipeline class first, and by
// its shapes and its scheduler where the class is shared.
func findFamily(fsys fs.FS) (Family, error) {
	f, err := readFacts(fsys)
	if err != nil {
		return "", err
	}
	switch {
	case strings.HasPrefix(f.Class, "LatentConsistencyModel") || f.UNet.GuidanceWidth != nil || f.Scheduler.Class == "LCMScheduler":
		return LCM, nil
	case strings.Contains(f.Class, "InstructPix2Pix") || f.UNet.Channels == 8:
		return Pix2Pix, nil
	case strings.Contains(f.Class, "Inpaint") || f.UNet.Channels == 9:
		return Inpaint, nil
	case strings.HasPrefix(f.Scheduler.Class, "Euler") && f.Scheduler.Spacing == "trailing":
		// Distilled models share their base's class; all of them are sampled
		// from the very last timestep.
		return Turbo, nil
	case f.Class == "StableDiffusionXLImg2ImgPipeline":
		return SDXLRefiner, nil
	case strings.HasPrefix(f.Class, "StableDiffusionXL"):
		return SDXL, nil
	case strings.HasPrefix(f.Class, "StableDiffusion") || strings.HasPrefix(f.Class, "OnnxStableDiffusion"):
		if f.UNet.CrossAttention == 1024.0 || f.Scheduler.Prediction == "v_prediction" {
			return SD2, nil
		}
		return SD1, nil
	}
	return "", fmt.Errorf("find family: the pipeline class %q is not one of the Stable Diffusion family", f.Class)
}

// builtin are the defaults of a family's jobs: those of diffusers' pipelines.
func (f Family) builtin() Defaults {
	steps, guidance, strength, image := 50, 7.5, 0.8, 1.5
	switch f {
	case SDXL, SDXLRefiner:
		guidance = 5
	case Turbo:
		steps, guidance = 1, 0
	case LCM:
		steps, guidance = 4, 8.5
	case Pix2Pix:
		steps = 100
	case SD1, SD2, Inpaint:
	}
	return Defaults{Steps: &steps, GuidanceScale: &guidance, Strength: &strength, ImageGuidanceScale: &image}
}
