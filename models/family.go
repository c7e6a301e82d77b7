package models

import (
	"errors"
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

// findFamily finds the family of a model by its pipeline class first, and by
// its shapes and its scheduler where the class is shared or not known.
//
// It also gives the defaults that come with what was found.
func findFamily(fsys fs.FS) (Family, Defaults, error) {
	f, err := readFacts(fsys)
	if err != nil {
		return "", Defaults{}, fmt.Errorf("find family: %w", err)
	}
	family, err := f.family()
	if err != nil {
		return "", Defaults{}, fmt.Errorf("find family: %w", err)
	}
	return family, f.defaults(family), nil
}

// defaults are the family's, but a plain LCM, whose UNet is not told the
// guidance, would be burnt by as much of it.
func (f *facts) defaults(family Family) Defaults {
	d := family.builtin()
	if guided, err := f.guided(); family == LCM && err == nil && !guided {
		d.GuidanceScale = new(1.0)
	}
	return d
}

// base is what a class or the width of the text tells: the family before its
// variants.
func (f *facts) base() (Family, error) {
	class := strings.TrimPrefix(strings.TrimPrefix(f.Index.Class, "ORT"), "Onnx")
	switch {
	case strings.HasPrefix(class, "StableDiffusionXL"):
		refiner, err := f.isRefiner()
		if refiner {
			return SDXLRefiner, err
		}
		return SDXL, err
	case strings.HasPrefix(class, "StableDiffusionPipeline"), strings.HasPrefix(class, "StableDiffusionImg2Img"),
		strings.HasPrefix(class, "StableDiffusionInpaint"), strings.HasPrefix(class, "StableDiffusionInstructPix2Pix"):
		if f.Scheduler.Prediction == "v_prediction" || f.knownTextWidth() == 1024 {
			return SD2, nil
		}
		return SD1, nil
	case strings.HasPrefix(class, "LatentConsistencyModel"):
		return SD1, nil
	case strings.HasPrefix(class, "StableDiffusion"), f.transformer:
		return "", fmt.Errorf("the pipeline class %.80q is not one of the families %v", f.Index.Class, Families())
	}
	width, err := f.textWidth()
	if err != nil {
		return "", err
	}
	switch width {
	case 768:
		return SD1, nil
	case 1024:
		return SD2, nil
	case 1280:
		return SDXLRefiner, nil
	case 2048:
		return SDXL, nil
	}
	return "", fmt.Errorf("neither the pipeline class %.80q nor text embeddings of width %d tell which of the families %v it is",
		f.Index.Class, width, Families())
}

func (f *facts) family() (Family, error) {
	base, err := f.base()
	if err != nil {
		return "", err
	}
	channels, err := f.channels()
	if err != nil {
		return "", err
	}
	guided, err := f.guided()
	if err != nil {
		return "", err
	}
	switch {
	case strings.Contains(f.Index.Class, "LatentConsistencyModel"), f.Scheduler.Class == "LCMScheduler", guided:
		return LCM, nil
	case strings.Contains(f.Index.Class, "InstructPix2Pix"), channels == 8:
		return Pix2Pix, nil
	case strings.Contains(f.Index.Class, "Inpaint") && channels == 0, channels == 9:
		return Inpaint, nil
	case channels != 4 && channels != 0:
		return "", fmt.Errorf("its unet takes %d channels; 4, 8 and 9 are known", channels)
	case strings.HasPrefix(f.Scheduler.Class, "Euler") && f.Scheduler.Spacing == "trailing" &&
		(f.Scheduler.Prediction == "" || f.Scheduler.Prediction == "epsilon") && !f.Scheduler.ZeroSNR:
		// Distilled models share their base's class; all of them are sampled
		// from the very last timestep.
		return Turbo, nil
	}
	return base, nil
}

// isRefiner: the refiner of SDXL shares its class with SDXL saved for
// image-to-image; it has an aesthetics score in place of the target size.
func (f *facts) isRefiner() (bool, error) {
	if f.Index.Aesthetics || f.onlySecond || f.UNet.textWidth() == 1280 {
		return true, nil
	}
	if f.UNet.textWidth() != 0 {
		return false, nil
	}
	graph, err := f.graph()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	ids, _ := graph.Input("time_ids")
	return len(ids.Dims) == 2 && ids.Dims[1] == 5, err
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
