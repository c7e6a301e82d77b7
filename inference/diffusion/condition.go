package diffusion

import (
	"fmt"
	"math"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/tokenizer"
)

// conditions are what a task's images share: the encoded prompts.
type conditions struct {
	positive embedding
	// negative is nil without classifier-free guidance.
	negative *embedding
	tokens   int
}

// guided reports whether the task uses classifier-free guidance. A model that
// was distilled with a guidance embedding takes the scale as an input instead.
func (p *Pipeline) guided(t Task) bool {
	if p.unet.guidance != "" {
		return false
	}
	if p.EditsPhotos() {
		return t.Guidance > 1 && t.ImageGuidance >= 1
	}
	return t.Guidance > 1
}

// MaxChunks bounds the chunks of a prompt: each costs a run of the text encoder
// and 77 tokens more for the UNet to attend to in every step.
const MaxChunks = 32

// ErrPromptTooLong: the prompt has more than MaxChunks chunks.
var ErrPromptTooLong = fmt.Errorf("the prompt has more than %d chunks of 75 tokens", MaxChunks)

func (p *Pipeline) conditions(stop *onnx.Stop, t Task) (conditions, error) {
	positive := p.chunks(t.Weighted, t.Prompt, t.Prompt2)
	var negative [][]tokenizer.Chunk
	guided := p.guided(t)
	// SDXL was trained with zeros for "no negative prompt"; "" is encoded.
	zeros := t.Negative == nil && p.index.forceZeros() && p.unet.pooled != ""
	if guided && !zeros {
		text := ""
		if t.Negative != nil {
			text = *t.Negative
		}
		negative = p.chunks(t.Weighted, text, t.Negative2)
	}
	if err := p.level(positive, negative); err != nil {
		return conditions{}, err
	}

	first, err := p.encode(stop, positive, t.ClipSkip)
	if err != nil {
		return conditions{}, err
	}
	c := conditions{positive: first, tokens: first.tokens}
	switch {
	case guided && zeros:
		c.negative = &embedding{hidden: make([]float32, len(first.hidden)), pooled: make([]float32, len(first.pooled)), tokens: first.tokens}
	case guided:
		// The reference leaves no layers out of the negative prompt.
		second, err := p.encode(stop, negative, 0)
		if err != nil {
			return conditions{}, err
		}
		c.negative = &second
	}
	return c, nil
}

// chunks reads a prompt for every text encoder; second, if not nil, is what the
// second one reads.
func (p *Pipeline) chunks(weighted bool, text string, second *string) [][]tokenizer.Chunk {
	out := make([][]tokenizer.Chunk, len(p.text))
	for i, e := range p.text {
		if i == 1 && second != nil && *second != "" { // "" is absent here, as in the reference
			text = *second
		}
		if weighted {
			out[i] = e.tokens.Weighted(text)
		} else {
			// As the reference does it, what is beyond the first chunk is cut.
			out[i] = e.tokens.Chunks(text)[:1]
		}
	}
	return out
}

// level brings prompts, each given for every text encoder, to the same number of
// chunks: a batch has one length.
func (p *Pipeline) level(prompts ...[][]tokenizer.Chunk) error {
	most := 1
	for _, prompt := range prompts {
		for _, chunks := range prompt {
			most = max(most, len(chunks))
		}
	}
	if most > MaxChunks {
		return ErrPromptTooLong
	}
	for _, prompt := range prompts {
		for i, e := range p.text[:len(prompt)] {
			for len(prompt[i]) < most {
				prompt[i] = append(prompt[i], e.tokens.Empty())
			}
		}
	}
	return nil
}

// encode encodes a prompt with every text encoder and joins their hidden states
// token by token. The pooled prompt is the last encoder's.
func (p *Pipeline) encode(stop *onnx.Stop, prompts [][]tokenizer.Chunk, skip int) (embedding, error) {
	first, err := p.text[0].encode(stop, prompts[0], skip)
	if err != nil {
		return embedding{}, err
	}
	if len(p.text) == 1 {
		return first, nil
	}
	second, err := p.text[1].encode(stop, prompts[1], skip)
	if err != nil {
		return embedding{}, err
	}
	a, b := len(first.hidden)/first.tokens, len(second.hidden)/second.tokens
	joined := make([]float32, 0, len(first.hidden)+len(second.hidden))
	for i := range first.tokens {
		joined = append(joined, first.hidden[i*a:(i+1)*a]...)
		joined = append(joined, second.hidden[i*b:(i+1)*b]...)
	}
	return embedding{hidden: joined, pooled: second.pooled, tokens: first.tokens}, nil
}

// samples are the places of one image in the UNet's batch. extra are the
// channels after the latents.
func (p *Pipeline) samples(t Task, c conditions, extra []float32) []sample {
	var base sample
	if p.unet.guidance != "" {
		base.guidance = guidanceEmbedding(t.Guidance-1, int(p.unet.widths[p.unet.guidance]))
	}
	with := func(e embedding, score float32, extra []float32) sample {
		s := base
		s.hidden, s.pooled, s.timeIDs, s.extra = e.hidden, e.pooled, p.timeIDs(t, score), extra
		return s
	}
	positive := with(c.positive, goodScore, extra)
	switch {
	case c.negative == nil:
		return []sample{positive}
	case p.EditsPhotos():
		return []sample{with(*c.negative, badScore, make([]float32, len(extra))), with(*c.negative, badScore, extra), positive}
	default:
		return []sample{with(*c.negative, badScore, extra), positive}
	}
}

// The aesthetic scores that SDXL's refiner is told, as diffusers sets them by
// default.
const (
	goodScore = 6.0
	badScore  = 2.5
)

// timeIDs are SDXL's micro-conditioning: original size, crop, and target size,
// or the refiner's aesthetic score in place of that
// (StableDiffusionXLImg2ImgPipeline._get_add_time_ids).
func (p *Pipeline) timeIDs(t Task, score float32) []float32 {
	if p.unet.timeIDs == "" {
		return nil
	}
	ids := []float32{float32(t.OriginalSize[1]), float32(t.OriginalSize[0]), float32(t.Crop[0]), float32(t.Crop[1])}
	if p.unet.widths[p.unet.timeIDs] == refinerTimeIDs {
		return append(ids, score)
	}
	return append(ids, float32(t.TargetSize[1]), float32(t.TargetSize[0]))
}

// refinerTimeIDs is the number of time ids by which a refiner is known.
const refinerTimeIDs = 5

// guidanceEmbedding is the sinusoidal embedding of the guidance scale less one
// (diffusers LatentConsistencyModelPipeline.get_guidance_scale_embedding).
func guidanceEmbedding(w float64, width int) []float32 {
	out := make([]float32, width)
	half := width / 2
	step := float32(math.Log(10000) / float64(half-1))
	value := float32(float32(w) * 1000)
	for i := range half {
		frequency := float32(math.Exp(float64(float32(float32(i) * -step))))
		angle := float64(float32(value * frequency))
		out[i], out[half+i] = float32(math.Sin(angle)), float32(math.Cos(angle))
	}
	return out
}
