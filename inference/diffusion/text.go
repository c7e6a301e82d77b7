package diffusion

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/imgus/worker/inference/onnx"
	"github.com/imgus/worker/inference/tokenizer"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/models/onnxfile"
)

// embedding is an encoded prompt. Nobody changes it: it may be shared.
type embedding struct {
	// hidden has a vector per token: tokens x width.
	hidden []float32
	tokens int
	// pooled is the one vector of the whole prompt that SDXL asks for.
	pooled []float32
}

// textEncoder is a CLIP text model with its tokenizer.
type textEncoder struct {
	tokens  *tokenizer.Tokenizer
	session *onnx.Session
	binding *onnx.Binding
	ids     string
	hidden  string
	pooled  string
	// width of a token's hidden state, and of the pooled vector if there is one.
	width, pooledWidth int64
	config             textConfig
	// penultimate: the encoder gives the layer before its last, unnormalised,
	// as SDXL was trained.
	penultimate bool

	// empty is the empty prompt's, which most jobs have as their negative one.
	// Prompts that people wrote are never kept.
	empty *embedding

	// noMoreSkips: reload has been tried.
	noMoreSkips bool
	// reload loads the encoder with outputs for CLIP skip, which costs a
	// rewritten graph, and is done for the first job that asks for it.
	reload func(ctx context.Context) (*onnx.Session, error)
}

// openText loads the text encoder of the folder.
func openText(rt *onnx.Runtime, files Files, o onnx.Options, component, tokens string, penultimate bool) (*textEncoder, error) {
	sub, err := fs.Sub(files.FS, tokens)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", tokens, err)
	}
	e := &textEncoder{penultimate: penultimate}
	if err := files.config(component+"/config.json", &e.config); err != nil {
		return nil, err
	}
	if e.tokens, err = tokenizer.Load(sub); err != nil {
		return nil, fmt.Errorf("load %s: %w", tokens, err)
	}
	source, err := files.source(component)
	if err != nil {
		return nil, err
	}
	if e.session, err = rt.Load(source, o, nil); err != nil {
		return nil, fmt.Errorf("load %s: %w", component, err)
	}
	e.reload = func(ctx context.Context) (*onnx.Session, error) {
		if err := files.verify(ctx); err != nil {
			return nil, err
		}
		return rt.Load(source, o, e.addSkips)
	}
	if err := e.findNames(); err != nil {
		return nil, fmt.Errorf("load %s: %w", component, closing(err, e.session))
	}
	return e, nil
}

func (e *textEncoder) findNames() error {
	ids, ok := e.session.Input("input_ids")
	if !ok {
		return errors.New("it has no input for token ids")
	}
	hidden, ok := e.session.Output("last_hidden_state", "text_embeddings")
	if e.penultimate {
		hidden, ok = e.session.Output(hiddenState(e.layers()-1), "hidden_states")
	}
	if !ok || len(hidden.Dims) != 3 {
		return errors.New("it does not give the hidden states of the layer that the unet needs")
	}
	e.ids, e.hidden = ids.Name, hidden.Name
	if e.width = fixed(hidden.Dims[2], e.config.Hidden); e.width == 0 {
		return errors.New("the width of its hidden states is unknown: config.json has no hidden_size")
	}
	for _, pooled := range []struct {
		name  string
		width int
	}{{"text_embeds", e.config.Projection}, {"text_embeddings", e.config.Projection}, {"pooler_output", e.config.Hidden}} {
		if v, ok := e.session.Output(pooled.name); ok && len(v.Dims) == 2 {
			e.pooled, e.pooledWidth = v.Name, fixed(v.Dims[1], pooled.width)
			break
		}
	}
	return nil
}

// layers counts the transformer layers by the hidden states that the export
// gives: one before the first layer, and one after each.
func (e *textEncoder) layers() int {
	n := 0
	for {
		if _, ok := e.session.Output(hiddenState(n + 1)); !ok {
			return n
		}
		n++
	}
}

func hiddenState(i int) string { return fmt.Sprintf("hidden_states.%d", i) }

func skipName(skipped int) string { return fmt.Sprintf("clip_skip.%d", skipped) }

// ErrClipSkip: the text encoder cannot leave out that many layers.
var ErrClipSkip = errors.New("clip_skip: the model's text encoder cannot leave out that many layers")

// skipped gives the output that leaves out the layers.
func (e *textEncoder) skipped(stop *onnx.Stop, skip int) (string, error) {
	if skip == 0 {
		return e.hidden, nil
	}
	if e.penultimate {
		if v, ok := e.session.Output(hiddenState(e.layers() - 1 - skip)); ok {
			return v.Name, nil
		}
		return "", ErrClipSkip
	}
	if v, ok := e.session.Output(skipName(skip)); ok {
		return v.Name, nil
	}
	if e.noMoreSkips {
		return "", ErrClipSkip
	}
	session, err := e.reload(stop.Context())
	if err != nil && !errors.Is(err, onnx.ErrOutOfMemory) && !errors.Is(err, onnx.ErrDeviceLost) {
		e.noMoreSkips = true
		return "", fmt.Errorf("%w: %w", ErrClipSkip, err)
	}
	if err != nil {
		return "", err
	}
	e.noMoreSkips = true // it has all there are now
	old := &textEncoder{session: e.session, binding: e.binding}
	e.session, e.binding = session, nil
	if err := old.close(); err != nil {
		return "", err
	}
	if v, ok := e.session.Output(skipName(skip)); ok {
		return v.Name, nil
	}
	return "", ErrClipSkip
}

func (e *textEncoder) addSkips(m *onnxfile.Model) (bool, error) {
	if _, err := m.SkipLayers(e.hidden, job.MaxClipSkip, skipName); err != nil {
		return false, err
	}
	return true, nil
}

// encode encodes the chunks of one prompt, leaving out the last skip layers, and
// joins their tokens. The pooled vector is the first chunk's.
func (e *textEncoder) encode(stop *onnx.Stop, chunks []tokenizer.Chunk, skip int) (embedding, error) {
	hidden, err := e.skipped(stop, skip)
	if err != nil {
		return embedding{}, err
	}
	if len(chunks) == 1 {
		return e.encodeChunk(stop, chunks[0], hidden)
	}
	var out embedding
	for i, chunk := range chunks {
		part, err := e.encodeChunk(stop, chunk, hidden)
		if err != nil {
			return embedding{}, err
		}
		out.hidden = append(out.hidden, part.hidden...)
		out.tokens += part.tokens
		if i == 0 {
			out.pooled = part.pooled
		}
	}
	return out, nil
}

// encodeChunk encodes one chunk; hidden is the output that gives its states.
func (e *textEncoder) encodeChunk(stop *onnx.Stop, chunk tokenizer.Chunk, hidden string) (embedding, error) {
	empty := hidden == e.hidden && isChunk(chunk, e.tokens.Empty())
	if empty && e.empty != nil {
		return *e.empty, nil
	}
	if err := e.bind(len(chunk.IDs)); err != nil {
		return embedding{}, err
	}
	in := e.binding.Tensor(e.ids)
	for i, id := range chunk.IDs {
		in.SetInt(i, int64(id))
	}
	if err := e.binding.Run(stop); err != nil {
		return embedding{}, err
	}
	out := embedding{hidden: clone(e.binding.Tensor(hidden).Floats()), tokens: len(chunk.IDs)}
	tokenizer.ApplyWeights(out.hidden, int(e.width), chunk.Weights)
	if e.pooled != "" {
		out.pooled = clone(e.binding.Tensor(e.pooled).Floats())
	}
	if empty {
		e.empty = &out
	}
	return out, nil
}

func isChunk(a, b tokenizer.Chunk) bool {
	return slices.Equal(a.IDs, b.IDs) && slices.Equal(a.Weights, b.Weights)
}

func (e *textEncoder) bind(tokens int) error {
	if e.binding != nil {
		return nil
	}
	binding, err := e.session.Bind(func(v onnxfile.Value) ([]int64, error) {
		switch {
		case v.Name == e.ids:
			return []int64{1, int64(tokens)}, nil
		case v.Type == onnxfile.Bool:
			return v.Dims, nil
		case len(v.Dims) == 3: // every hidden state has the same width
			return []int64{1, int64(tokens), e.width}, nil
		case v.Name == e.pooled:
			return []int64{1, e.pooledWidth}, nil
		case len(v.Dims) == 2 && v.Dims[1] > 0:
			return []int64{1, v.Dims[1]}, nil
		}
		return nil, fmt.Errorf("nothing is known of its shape %v", v.Dims)
	})
	if err != nil {
		return err
	}
	// Some exports have a switch for the hidden states.
	if b := binding.Tensor("output_hidden_states"); b != nil {
		b.SetInt(0, 1)
	}
	e.binding = binding
	return nil
}

func (e *textEncoder) close() error {
	if e.binding != nil {
		e.binding.Close()
	}
	return e.session.Close()
}
