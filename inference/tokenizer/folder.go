package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
)

const (
	clipLength = 77
	maxLength  = 1024 // above it model_max_length means "not set" (1e30)
)

// settings are what the tokenizer's JSON files say beside the vocabulary.
type settings struct {
	bos, eos, unk, pad string
	added              []token // in the order in which the reference adds them
	length             int
}

// token is a special or added token: in JSON a string, or an object.
type token struct {
	Content    string `json:"content"`
	LStrip     bool   `json:"lstrip"`
	RStrip     bool   `json:"rstrip"`
	SingleWord bool   `json:"single_word"`
	Normalized bool   `json:"normalized"` // searched in the normalised text
	bare       bool   // written as a string
}

func (t *token) UnmarshalJSON(data []byte) error {
	if json.Unmarshal(data, &t.Content) == nil {
		t.bare = true
		return nil
	}
	type object token // without this method
	o := object{Normalized: true}
	if err := json.Unmarshal(data, &o); err != nil {
		return err
	}
	*t = token(o)
	return nil
}

type specialTokens struct {
	BOS        *token  `json:"bos_token"`
	EOS        *token  `json:"eos_token"`
	Unk        *token  `json:"unk_token"`
	Pad        *token  `json:"pad_token"`
	Additional []token `json:"additional_special_tokens"`
}

// overlay takes from other what it names.
func (s *specialTokens) overlay(other specialTokens) {
	for _, p := range []struct {
		to   **token
		from *token
	}{{&s.BOS, other.BOS}, {&s.EOS, other.EOS}, {&s.Unk, other.Unk}, {&s.Pad, other.Pad}} {
		if p.from != nil {
			*p.to = p.from
		}
	}
	s.Additional = append(s.Additional, other.Additional...)
}

// readSettings follows transformers' PreTrainedTokenizerBase._from_pretrained:
// with an added_tokens_decoder tokenizer_config.json says everything; without
// one, special_tokens_map.json overrides it and added_tokens.json adds to it.
func readSettings(fsys fs.FS) (settings, error) {
	var config struct {
		specialTokens
		Length  float64       `json:"model_max_length"`
		Decoder map[int]token `json:"added_tokens_decoder"`
	}
	if err := readJSON(fsys, "tokenizer_config.json", &config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return settings{}, err
	}
	special := config.specialTokens
	appended := map[string]int{}
	if config.Decoder == nil {
		var override specialTokens
		if err := readJSON(fsys, "special_tokens_map.json", &override); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return settings{}, err
		}
		special.overlay(override)
		if err := readJSON(fsys, "added_tokens.json", &appended); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return settings{}, err
		}
	}

	s := settings{length: clipLength}
	if config.Length != 0 && config.Length <= maxLength {
		if s.length = int(config.Length); s.length < 3 {
			return settings{}, fmt.Errorf("tokenizer_config.json: model_max_length %d leaves no room for text", s.length)
		}
	}
	end := &token{Content: "<|endoftext|>", bare: true}
	bos := orDefault(special.BOS, &token{Content: "<|startoftext|>", bare: true})
	eos, unk, pad := orDefault(special.EOS, end), orDefault(special.Unk, end), orDefault(special.Pad, end)
	s.bos, s.eos, s.unk, s.pad = bos.Content, eos.Content, unk.Content, pad.Content

	for _, id := range slices.Sorted(maps.Keys(config.Decoder)) {
		s.add(config.Decoder[id])
	}
	// CLIPTokenizer makes these three of a string with normalized=True; any other
	// special token written as a string is searched as it stands.
	for _, t := range []token{bos, eos, unk} {
		t.Normalized = t.Normalized || t.bare
		s.add(t)
	}
	byID := func(a, b string) int { return appended[a] - appended[b] }
	for _, content := range slices.SortedFunc(maps.Keys(appended), byID) {
		isSpecial := slices.ContainsFunc(special.Additional, func(t token) bool { return t.Content == content })
		s.add(token{Content: content, Normalized: !isSpecial && content != pad.Content})
	}
	s.add(pad)
	for _, t := range special.Additional {
		s.add(t)
	}
	for _, t := range s.added {
		if t.LStrip || t.RStrip || t.SingleWord {
			return settings{}, errors.New("added tokens with lstrip, rstrip or single_word are not supported")
		}
	}
	return s, nil
}

func orDefault(t, def *token) token {
	if t == nil {
		return *def
	}
	return *t
}

func (s *settings) add(t token) {
	if t.Content == "" || slices.ContainsFunc(s.added, func(a token) bool { return a.Content == t.Content }) {
		return
	}
	s.added = append(s.added, t)
}

func readJSON(fsys fs.FS, name string, v any) error {
	data, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
