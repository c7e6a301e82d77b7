package tokenizer_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/inference/tokenizer"
)

// golden is what the reference says; testdata/golden.py makes it.
type golden struct {
	EveryCodePoint string `json:"every_code_point"`
	Folders        map[string]struct {
		Vocabulary string
		Files      map[string]json.RawMessage
		IDs        [3]int32 // bos, eos, pad
		Size       int
	}
	Cases   []goldenCase
	Prompts []goldenCase
}

type goldenCase struct {
	Folder string
	Text   string
	IDs    []int32
}

var readGolden = sync.OnceValue(func() golden {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		panic(err)
	}
	var g golden
	if err := json.Unmarshal(data, &g); err != nil {
		panic(err)
	}
	return g
})

// clipFolder is CLIP's own vocabulary: its merges, and vocab.json made of them
// as OpenAI made it (bytes, bytes at a word's end, merges, the two specials).
var clipFolder = sync.OnceValue(func() fstest.MapFS {
	f, err := os.Open("testdata/merges.txt.gz")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		panic(err)
	}
	merges, err := io.ReadAll(z)
	if err != nil {
		panic(err)
	}

	var symbols, late []string
	for b, next := rune(0), rune(256); b < 256; b++ {
		if unicode.IsGraphic(b) && b != ' ' && b != 0xa0 && b != 0xad {
			symbols = append(symbols, string(b))
		} else {
			late = append(late, string(next))
			next++
		}
	}
	symbols = append(symbols, late...)
	for _, s := range symbols[:256] {
		symbols = append(symbols, s+"</w>")
	}
	for _, line := range strings.Split(strings.TrimSpace(string(merges)), "\n")[1:] {
		symbols = append(symbols, strings.Replace(line, " ", "", 1))
	}
	symbols = append(symbols, "<|startoftext|>", "<|endoftext|>")
	ids := make(map[string]int, len(symbols))
	for i, s := range symbols {
		ids[s] = i
	}
	var vocab bytes.Buffer
	e := json.NewEncoder(&vocab)
	e.SetEscapeHTML(false) // "</w>" as in the published file
	if err := e.Encode(ids); err != nil {
		panic(err)
	}
	return fstest.MapFS{"merges.txt": {Data: merges}, "vocab.json": {Data: vocab.Bytes()}}
})

func tinyFolder(t testing.TB) fstest.MapFS {
	t.Helper()
	m := fstest.MapFS{}
	for _, name := range []string{"vocab.json", "merges.txt"} {
		data, err := os.ReadFile("testdata/tiny/" + name)
		if err != nil {
			t.Fatal(err)
		}
		m[name] = &fstest.MapFile{Data: data}
	}
	return m
}

func load(t testing.TB, fsys fs.FS) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func goldenTokenizers(t testing.TB) map[string]*tokenizer.Tokenizer {
	t.Helper()
	toks := map[string]*tokenizer.Tokenizer{}
	for name, f := range readGolden().Folders {
		folder := tinyFolder(t)
		if f.Vocabulary == "clip" {
			folder = maps.Clone(clipFolder())
		}
		for name, data := range f.Files {
			folder[name] = &fstest.MapFile{Data: data}
		}
		toks[name] = load(t, folder)
	}
	return toks
}

func TestGolden(t *testing.T) {
	g := readGolden()
	toks := goldenTokenizers(t)
	for name, f := range g.Folders {
		tok := toks[name]
		if got := [3]int32{tok.BOS(), tok.EOS(), tok.Pad()}; got != f.IDs || tok.Size() != f.Size {
			t.Errorf("%s: bos, eos, pad %v, size %d; want %v, %d", name, got, tok.Size(), f.IDs, f.Size)
		}
		if tok.Length() != 77 {
			t.Errorf("%s: length %d, want 77", name, tok.Length())
		}
	}
	for _, c := range g.Cases {
		if got := toks[c.Folder].Encode(c.Text); !slices.Equal(got, c.IDs) {
			t.Errorf("%s: Encode(%+q)\n got %v\nwant %v", c.Folder, c.Text, got, c.IDs)
		}
	}
	for _, c := range g.Prompts {
		if diff := cmp.Diff(c.IDs, toks[c.Folder].Prompt(c.Text)); diff != "" {
			t.Errorf("%s: Prompt(%q) (-want +got):\n%s", c.Folder, c.Text, diff)
		}
	}
}

// The digest is over every code point's class and normalised form.
func TestEveryCodePoint(t *testing.T) {
	digest := sha256.New()
	tokenizer.DescribeCodePoints(digest)
	if got := hex.EncodeToString(digest.Sum(nil)); got != readGolden().EveryCodePoint {
		t.Errorf("classes or normalised forms differ from the reference's: digest %s", got)
	}
}

func TestInvalidUTF8(t *testing.T) {
	tok := load(t, clipFolder())
	if diff := cmp.Diff(tok.Encode("a \uFFFD cat"), tok.Encode("a \xff\xfe cat")); diff != "" {
		t.Error(diff)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, change := range map[string]func(fstest.MapFS){
		"no vocabulary":   func(m fstest.MapFS) { delete(m, "vocab.json") },
		"no merges":       func(m fstest.MapFS) { delete(m, "merges.txt") },
		"broken JSON":     func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`{"a":`)} },
		"not an object":   func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`["a"]`)} },
		"cut":             func(m fstest.MapFS) { v := m["vocab.json"]; v.Data = v.Data[:len(v.Data)/2] },
		"trailing":        func(m fstest.MapFS) { v := m["vocab.json"]; v.Data = append(v.Data, 'x') },
		"twice":           func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`{"a":0,"a":1}`)} },
		"not a number":    func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`{"a":"0"}`)} },
		"id out of range": func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`{"a":7}`)} },
		"negative id":     func(m fstest.MapFS) { m["vocab.json"] = &fstest.MapFile{Data: []byte(`{"a":-1}`)} },
		"merge of one":    func(m fstest.MapFS) { m["merges.txt"] = &fstest.MapFile{Data: []byte("#version\na")} },
		"unknown merge":   func(m fstest.MapFS) { m["merges.txt"] = &fstest.MapFile{Data: []byte("#version\nqq zz")} },
		"broken settings": func(m fstest.MapFS) {
			m["special_tokens_map.json"] = &fstest.MapFile{Data: []byte(`{"bos_token": 3}`)}
		},
		"no room": func(m fstest.MapFS) {
			m["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"model_max_length": 2}`)}
		},
		"lstrip": func(m fstest.MapFS) {
			m["special_tokens_map.json"] = &fstest.MapFile{Data: []byte(`{"pad_token": {"content":"!","lstrip":true}}`)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			folder := tinyFolder(t)
			change(folder)
			if _, err := tokenizer.Load(folder); err == nil {
				t.Error("no error")
			} else if !strings.HasPrefix(err.Error(), "tokenizer: ") {
				t.Errorf("error %q", err)
			}
		})
	}
}

func TestLength(t *testing.T) {
	folder := tinyFolder(t)
	folder["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"model_max_length": 16}`)}
	if got := load(t, folder).Prompt("a cat"); len(got) != 16 {
		t.Errorf("%d ids, want 16", len(got))
	}
	folder["tokenizer_config.json"] = &fstest.MapFile{Data: []byte(`{"model_max_length": 1e30}`)} // transformers' "not set"
	if got := load(t, folder).Length(); got != 77 {
		t.Errorf("length %d, want 77", got)
	}
}

func TestPromptProperties(t *testing.T) {
	tok := load(t, clipFolder())
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		ids, prompt := tok.Encode(text), tok.Prompt(text)
		n := min(len(ids), tok.Length()-2)
		if len(prompt) != tok.Length() || prompt[0] != tok.BOS() || prompt[n+1] != tok.EOS() {
			t.Fatalf("frame of %v", prompt)
		}
		if !slices.Equal(prompt[1:n+1], ids[:n]) {
			t.Fatalf("text of %v, want %v", prompt, ids)
		}
		for _, id := range prompt[n+2:] {
			if id != tok.Pad() {
				t.Fatalf("padding of %v", prompt)
			}
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	tok := load(t, tinyFolder(t))
	want := tok.Prompt("a photo of a café")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if !slices.Equal(tok.Prompt("a photo of a café"), want) {
				t.Error("another answer")
			}
		})
	}
	wg.Wait()
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "a cat", "'s'll", "<|endoftext|>!", "e\u0301\u0323", "İ😀漢", "\xff", strings.Repeat("\u0301", 40)} {
		f.Add(s)
	}
	toks := []*tokenizer.Tokenizer{load(f, clipFolder()), load(f, tinyFolder(f))}
	f.Fuzz(func(t *testing.T, text string) {
		for _, tok := range toks {
			ids := tok.Encode(text)
			for _, id := range ids {
				if id < 0 || int(id) >= tok.Size() {
					t.Fatalf("id %d is not in [0, %d)", id, tok.Size())
				}
			}
			// A space parts words, so it parts encodings.
			if got, want := tok.Encode(text+" "+text), slices.Concat(ids, ids); !slices.Equal(got, want) {
				t.Fatalf("Encode(%+q twice)\n got %v\nwant %v", text, got, want)
			}
		}
	})
}

// Load reads vocab.json by a parser of its own: held to encoding/json.
func FuzzVocabulary(f *testing.F) {
	for _, s := range []string{`{}`, ` { "a" : 0 , "\u00e9\"b" :1}`, `{"a":-0}`, `{"a":01}`, `{"a":1e0}`, `{"a":0,}`, `{"\ud83d\ude00":0}`, `{"a":0}x`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := tokenizer.ParseVocabulary(text)
		if err != nil {
			return
		}
		var want map[string]int32
		if err := json.Unmarshal([]byte(text), &want); err == nil && utf8.ValidString(text) && !cmp.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	folder := clipFolder()
	for b.Loop() {
		load(b, folder)
	}
}

func BenchmarkPrompt(b *testing.B) {
	tok := load(b, clipFolder())
	b.ReportAllocs()
	for b.Loop() {
		tok.Prompt("an astronaut riding a horse on mars, highly detailed, 8k, trending on artstation")
	}
}

func BenchmarkPromptHostile(b *testing.B) {
	tok := load(b, clipFolder())
	text := strings.Repeat("e\u0301\u0323", 2000)
	for b.Loop() {
		tok.Prompt(text)
	}
}
