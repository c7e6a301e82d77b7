package job

// Limits bound what a job may ask for. The zero value of a field means "not
// bounded by this source".
type Limits struct {
	Steps       int   `json:"steps,omitempty" yaml:"steps,omitempty"`
	Images      int   `json:"images,omitempty" yaml:"images,omitempty"`
	Width       int   `json:"width,omitempty" yaml:"width,omitempty"`
	Height      int   `json:"height,omitempty" yaml:"height,omitempty"`
	Pixels      int64 `json:"pixels,omitempty" yaml:"pixels,omitempty"`
	Prompt      int   `json:"prompt,omitempty" yaml:"prompt,omitempty"`
	InputBytes  int64 `json:"input_bytes,omitempty" yaml:"input_bytes,omitempty"`
	InputPixels int64 `json:"input_pixels,omitempty" yaml:"input_pixels,omitempty"`
	InputSide   int   `json:"input_side,omitempty" yaml:"input_side,omitempty"`
}

// MinSide is the smallest width and height of an image, in pixels.
const MinSide = 64

// MaxClipSkip is the largest number of layers of a text encoder that a job may
// leave out.
const MaxClipSkip = 8

// MaxSeed is the largest seed of a job's last image: larger integers break
// readers of JSON that hold numbers as doubles.
const MaxSeed = 1<<53 - 1

// HardLimits are the contract's own. Configuration and models only narrow them.
func HardLimits() Limits {
	return Limits{
		Steps: 150, Images: 8, Width: 2048, Height: 2048, Pixels: 2048 * 2048, Prompt: 4000,
		InputBytes: 20 << 20, InputPixels: 50_000_000, InputSide: 16_384,
	}
}

// Narrow returns the stricter of both, field by field.
func (l Limits) Narrow(by Limits) Limits {
	return Limits{
		Steps:       narrow(l.Steps, by.Steps),
		Images:      narrow(l.Images, by.Images),
		Width:       narrow(l.Width, by.Width),
		Height:      narrow(l.Height, by.Height),
		Pixels:      narrow(l.Pixels, by.Pixels),
		Prompt:      narrow(l.Prompt, by.Prompt),
		InputBytes:  narrow(l.InputBytes, by.InputBytes),
		InputPixels: narrow(l.InputPixels, by.InputPixels),
		InputSide:   narrow(l.InputSide, by.InputSide),
	}
}

func narrow[T int | int64](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
