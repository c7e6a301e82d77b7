package models

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/imgus/worker/models/onnxfile"
)

// Check holds the model to the rules for models from strangers, before anything
// loads it: bounded files and folders, no links out of it, no code, JSON that is
// JSON, every component that its family needs, and ONNX files that keep the
// rules of onnxfile.Check, with their weights in files of the folder. It takes
// milliseconds, whatever the size of the model, and reads no weights. The error
// is ErrRefused with the file and the reason, or says what cannot be read.
func (m *Model) Check() error {
	fsys, done, err := m.files()
	if err != nil {
		return err
	}
	defer done()
	files, err := listFiles(fsys, false)
	if err != nil {
		return fmt.Errorf("check model: %w", err)
	}
	if err := checkFiles(fsys, files, m.Manifest.Family); err != nil {
		return fmt.Errorf("check model: %w", err)
	}
	return nil
}

func checkFiles(fsys fs.FS, files []file, family Family) error {
	sizes := map[string]int64{}
	graphs := 0
	for _, f := range files {
		sizes[f.path] = f.size
		if path.Ext(f.path) == ".onnx" {
			if graphs++; graphs > maxGraphs {
				return refuse(f.path, "there are more than %d ONNX files", maxGraphs)
			}
		}
	}
	for _, name := range family.needs(sizes) {
		if _, ok := sizes[name]; !ok {
			return refuse(name, "it is missing; the family %s needs it", family)
		}
	}
	// Cheap looks at every file come before long ones at some.
	for _, f := range files {
		if err := checkCode(fsys, f); err != nil {
			return err
		}
	}
	for _, f := range files {
		if isTokenizer(f.path) && f.size > maxVocab {
			return refuse(f.path, "it has %d bytes; the limit is %d", f.size, maxVocab)
		}
		if path.Ext(f.path) == ".json" {
			if err := checkJSON(fsys, f); err != nil {
				return err
			}
		}
	}
	for _, f := range files {
		if path.Ext(f.path) == ".onnx" {
			if err := checkGraph(fsys, f, sizes); err != nil {
				return err
			}
		}
	}
	return nil
}

// needs lists the files without which a model of the family cannot run.
func (f Family) needs(has map[string]int64) []string {
	out := []string{"scheduler/scheduler_config.json", "unet/model.onnx", "vae_decoder/model.onnx"}
	_, second := has["text_encoder_2/model.onnx"]
	if f != SDXLRefiner { // it has the second encoder only
		out = append(out, "text_encoder/model.onnx", "tokenizer/vocab.json", "tokenizer/merges.txt")
	}
	if second || f == SDXL || f == SDXLRefiner {
		out = append(out, "text_encoder_2/model.onnx", "tokenizer_2/vocab.json", "tokenizer_2/merges.txt")
	}
	if f == Inpaint || f == Pix2Pix || f == SDXLRefiner {
		out = append(out, "vae_encoder/model.onnx")
	}
	return out
}

// codeExtensions are the files that programs run or load as code.
var codeExtensions = []string{
	".so", ".dll", ".dylib", ".exe", ".com", ".bat", ".cmd", ".ps1", ".sh", ".py", ".pyc", ".pyd", ".js", ".jar", ".node", ".wasm",
}

// checkCode refuses libraries, programs and scripts, by their names and by how
// they begin. ONNX Runtime loads a library with operators only when told to,
// which this program never does; no model needs one.
func checkCode(fsys fs.FS, f file) error {
	name := strings.ToLower(path.Base(f.path))
	if slices.Contains(codeExtensions, path.Ext(name)) || strings.Contains(name, ".so.") {
		return refuse(f.path, "a model holds no code")
	}
	if f.size == 0 {
		return nil
	}
	r, err := fsys.Open(f.path)
	if err != nil {
		return fmt.Errorf("open %q: %w", f.path, err)
	}
	defer r.Close()
	head := make([]byte, 4096)
	n, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("read %q: %w", f.path, err)
	}
	if isCode(head[:n]) {
		return refuse(f.path, "it begins like a program; a model holds no code")
	}
	return nil
}

// isCode knows ELF, Mach-O, PE and scripts by their first bytes. The tests are
// long enough that weights never look like it by chance.
func isCode(head []byte) bool {
	for _, magic := range []string{
		"\x7fELF", "\xfe\xed\xfa\xce", "\xfe\xed\xfa\xcf", "\xce\xfa\xed\xfe", "\xcf\xfa\xed\xfe", "\xca\xfe\xba\xbe", "#!/",
	} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	if bytes.HasPrefix(head, []byte("MZ")) && len(head) >= 64 { // the PE header is where offset 60 says
		at := uint64(binary.LittleEndian.Uint32(head[60:]))
		return at+4 <= uint64(len(head)) && bytes.HasPrefix(head[at:], []byte("PE\x00\x00"))
	}
	return false
}

func isTokenizer(name string) bool { return strings.HasPrefix(name, "tokenizer") }

func checkJSON(fsys fs.FS, f file) error {
	most := int64(maxJSON)
	if isTokenizer(f.path) {
		most = maxVocab
	}
	if f.size > most {
		return refuse(f.path, "it has %d bytes; the limit is %d", f.size, most)
	}
	data, err := readBounded(fsys, f.path, most)
	if err != nil {
		return fmt.Errorf("read %q: %w", f.path, err)
	}
	if depth := nesting(data); depth > maxNesting {
		return refuse(f.path, "its JSON is nested more than %d deep", maxNesting)
	}
	if !json.Valid(data) {
		return refuse(f.path, "it is no valid JSON")
	}
	return nil
}

// nesting is how deep brackets are nested outside strings.
func nesting(data []byte) int {
	depth, deepest, quoted := 0, 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}

func checkGraph(fsys fs.FS, f file, sizes map[string]int64) error {
	err := withGraph(fsys, f.path, func(r io.ReaderAt, size int64) error {
		_, err := onnxfile.Check(r, size, func(location string) (int64, error) {
			size, ok := sizes[path.Join(path.Dir(f.path), location)]
			if !ok {
				return 0, errors.New("there is no such file in the model's folder")
			}
			return size, nil
		})
		return err
	})
	if err != nil {
		return refuse(f.path, "%s", strings.TrimPrefix(err.Error(), onnxfile.ErrRefused.Error()+": "))
	}
	return nil
}

// withGraph opens an ONNX file for reading here and there.
func withGraph(fsys fs.FS, name string, do func(r io.ReaderAt, size int64) error) error {
	f, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	r, ok := f.(io.ReaderAt)
	if !ok || !info.Mode().IsRegular() {
		return errors.New("it is no regular file")
	}
	return do(r, info.Size())
}
