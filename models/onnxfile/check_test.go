package onnxfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/imgus/worker/models/onnxfile"
)

// msg is an encoded message; its methods add a field.
type msg []byte

func (m msg) bytes(n protowire.Number, b []byte) msg {
	return protowire.AppendBytes(protowire.AppendTag(m, n, protowire.BytesType), b)
}

func (m msg) text(n protowire.Number, s string) msg { return m.bytes(n, []byte(s)) }

func (m msg) int(n protowire.Number, v uint64) msg {
	return protowire.AppendVarint(protowire.AppendTag(m, n, protowire.VarintType), v)
}

func opset(domain string, version uint64) msg { return msg{}.text(1, domain).int(2, version) }

func model(graph msg) msg {
	return msg{}.int(1, 8).text(2, "test").bytes(7, graph).bytes(8, opset("", 17))
}

func node(op, domain string, attributes ...msg) msg {
	n := msg{}.text(1, "x").text(2, "y").text(4, op).text(7, domain)
	for _, a := range attributes {
		n = n.bytes(5, a)
	}
	return n
}

// external is a float tensor of n elements with pairs of external data.
func external(n uint64, pairs ...string) msg {
	t := msg{}.int(1, n).int(2, 1).text(8, "weight").int(14, 1)
	for i := 0; i < len(pairs); i += 2 {
		t = t.bytes(13, msg{}.text(1, pairs[i]).text(2, pairs[i+1]))
	}
	return t
}

func initializer(t msg) msg { return model(msg{}.bytes(5, t)) }

func at(location string, more ...string) msg {
	return initializer(external(4, append([]string{"location", location}, more...)...))
}

// nested is a graph in a node's attribute, n deep.
func nested(n int) msg {
	g := msg{}.bytes(1, node("Add", ""))
	for range n {
		g = msg{}.bytes(1, node("If", "", msg{}.text(1, "then_branch").bytes(6, g)))
	}
	return g
}

func repeated(n int, number protowire.Number, body msg) msg {
	return bytes.Repeat(msg{}.bytes(number, body), n)
}

// sizes is a folder with one file of weights.
func sizes(location string) (int64, error) {
	if location == "weights" || location == "sub/weights" {
		return 100, nil
	}
	return 0, fs.ErrNotExist
}

func check(data []byte) (onnxfile.Summary, error) {
	return onnxfile.Check(bytes.NewReader(data), int64(len(data)), sizes)
}

func TestCheckRefuses(t *testing.T) {
	add := msg{}.bytes(1, node("Add", ""))
	tests := []struct {
		name string
		data msg
		says string
	}{
		{"parent folder", at("../weights"), "no plain path"},
		{"parent folder within", at("sub/../../weights"), "no plain path"},
		{"absolute", at("/etc/passwd"), "no plain path"},
		{"backslashes", at(`..\weights`), "no plain path"},
		{"drive", at("C:weights"), "no plain path"},
		{"process memory", at("/proc/self/mem", "offset", "4096"), "no plain path"},
		{"address in memory", at("*/_ORT_MEM_ADDR_/*", "offset", "140000000000000", "length", "16"), "external data"},
		{"NUL byte", at("weights\x00.txt"), "no plain path"},
		{"no location", initializer(external(4, "offset", "0")), "no plain path"},
		{"external without entries", initializer(external(4)), "no plain path"},
		{"file that is not there", at("nothing"), "nothing"},
		{"offset beyond the file", at("weights", "offset", "88"), "beyond the 100 bytes"},
		{"huge offset", at("weights", "offset", strconv.Itoa(math.MaxInt64)), "beyond"},
		{"offset that overflows", at("weights", "offset", "18446744073709551615"), "offset"},
		{"negative offset", at("weights", "offset", "-1"), "offset"},
		{"offset in hex", at("weights", "offset", "0x10"), "offset"},
		{"length of another tensor", at("weights", "length", "8"), "takes 16 bytes"},
		{"two offsets", at("weights", "offset", "0", "offset", "96"), "two of offset"},
		{"two locations", at("weights", "location", "weights"), "two of location"},
		{"unknown key", at("weights", "basepath", "/"), "unknown key"},
		{"elements inside and outside", initializer(external(4, "location", "weights").bytes(9, make([]byte, 16))), "inside and outside"},
		{"strings outside", initializer(external(4, "location", "weights").int(2, 8)), "comes twice"},
		{"shape that overflows", initializer(external(1<<62, "location", "weights").int(1, 1<<62)), "more elements"},
		{"negative axis", initializer(external(1<<63, "location", "weights")), "cannot be"},
		{"many axes", initializer(append(external(1, "location", "weights"), bytes.Repeat(msg{}.int(1, 1), 20)...)), "cannot be"},
		{"unknown place", initializer(msg{}.int(1, 1).int(2, 1).int(14, 7)), "unknown place"},
		{"external in a Constant", model(msg{}.bytes(1, node("Constant", "", msg{}.text(1, "value").bytes(5, external(4, "location", "../x"))))), "no plain path"},
		{"external in a sparse weight", model(msg{}.bytes(15, msg{}.bytes(1, external(4, "location", "../x")))), "no plain path"},
		{"external in a branch", model(msg{}.bytes(1, node("If", "", msg{}.bytes(6, msg{}.bytes(5, external(4, "location", "../x")))))), "no plain path"},
		{"external in a function", model(add).bytes(25, msg{}.bytes(7, node("Constant", "", msg{}.bytes(5, external(4, "location", "../x"))))), "functions of its own"},
		{"unknown domain", model(msg{}.bytes(1, node("Add", "evil.ops"))), `"evil.ops"`},
		{"unknown import", model(add).bytes(8, opset("evil.ops", 1)), `"evil.ops"`},
		{"PyTorch's operators", model(msg{}.bytes(1, node("ATen", "org.pytorch.aten"))).bytes(8, opset("org.pytorch.aten", 1)), "ATen"},
		{"compiled code", model(msg{}.bytes(1, node("EPContext", "com.microsoft"))), "EPContext"},
		{"compiled code in a branch", model(msg{}.bytes(1, node("If", "", msg{}.bytes(6, msg{}.bytes(1, node("EPContext", "com.microsoft")))))), "EPContext"},
		{"function of an unknown domain", model(add).bytes(25, msg{}.text(1, "f").text(10, "evil.ops")), "functions of its own"},
		{"training", model(add).bytes(20, msg{}), "training"},
		{"deep graphs", model(nested(3000)), "nested"},
		{"no graph", msg{}.int(1, 8).bytes(8, opset("", 17)), "no graph"},
		{"two graphs", model(add).bytes(7, add), "comes twice"},
		{"two IR versions", model(add).int(1, 8), "comes twice"},
		{"graph of the wrong type", msg{}.int(1, 8).int(7, 1), "wrong type"},
		{"no IR version", msg{}.bytes(7, add).bytes(8, opset("", 17)), "IR version is 0"},
		{"later IR version", msg{}.int(1, 99).bytes(7, add).bytes(8, opset("", 17)), "IR version is 99"},
		{"no opset", msg{}.int(1, 8).bytes(7, add), "opset is 0"},
		{"old opset", msg{}.int(1, 8).bytes(7, add).bytes(8, opset("", 3)), "opset is 3"},
		{"later opset", msg{}.int(1, 8).bytes(7, add).bytes(8, opset("", 900)), "opset is 900"},
		{"two opsets", model(add).bytes(8, opset("", 18)), "twice"},
		{"two opsets by two names", model(add).bytes(8, opset("ai.onnx", 18)), "twice"},
		{"many nodes", model(repeated(100_001, 1, node("Add", ""))), "100000 nodes"},
		{"many weights", model(repeated(100_001, 5, msg{}.int(1, 1))), "100000 weights"},
		{"many fields", model(bytes.Repeat(msg{}.int(50, 1), 2_000_001)), "too many fields"},
		{"many inputs", model(repeated(5000, 11, msg{}.text(1, "x"))), "4096 inputs"},
		{"large graph", model(msg{}.bytes(10, make([]byte, 65<<20))), "besides weights"},
		{"long name", model(msg{}.bytes(1, node(strings.Repeat("A", 5000), ""))), "name of 5000"},
		{"group", append(model(add), protowire.AppendTag(nil, 60, protowire.StartGroupType)...), "group"},
		{"field beyond the file", append(model(add), protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.BytesType), 3<<30)...), "longer than"},
		{"length of 2^64", append(model(add), protowire.AppendVarint(protowire.AppendTag(nil, 2, protowire.BytesType), math.MaxUint64)...), "longer than"},
		{"endless varint", append(model(add), bytes.Repeat([]byte{0xff}, 30)...), "not a valid"},
		{"ORT format", msg("\x08\x00\x00\x00ORTM and more"), "ORT format"},
		{"empty", nil, "no graph"},
		{"text", msg("this is no model at all"), "group"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := check(tt.data)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if len(fmt.Sprint(err)) > 400 {
				t.Errorf("the message is as long as the model wants: %v", err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d MiB were allocated", used>>20)
			}
		})
	}
	if _, err := onnxfile.Check(bytes.NewReader(nil), 3<<30, sizes); !errors.Is(err, onnxfile.ErrRefused) {
		t.Errorf("3 GiB: %v", err)
	}
}

func TestCheckAccepts(t *testing.T) {
	add := msg{}.bytes(1, node("Add", ""))
	for name, data := range map[string]msg{
		"external data":             at("weights"),
		"with offset and length":    at("weights", "offset", "84", "length", "16", "checksum", "x"),
		"in a folder of the folder": at("sub/weights"),
		"packed shape":              initializer(msg{}.bytes(1, []byte{2, 2}).int(2, 1).int(14, 1).bytes(13, msg{}.text(1, "location").text(2, "weights"))),
		"nothing of a file":         initializer(external(0, "location", "weights", "offset", "100")),
		"branches":                  model(nested(8)),
		"an unused import":          model(add).bytes(8, opset("ai.onnx.training", 1)),
		"fused operators":           model(msg{}.bytes(1, node("NhwcConv", "com.microsoft"))).bytes(8, opset("com.microsoft", 1)),
		"ONNX by its other name":    msg{}.int(1, 8).bytes(7, add).bytes(8, opset("ai.onnx", 17)),
		"unknown fields":            model(add).int(60, 1),
	} {
		if _, err := check(data); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	s, err := check(at("weights"))
	if err != nil || len(s.External) != 1 || s.External[0] != "weights" || s.Initializers != 1 {
		t.Errorf("summary is %+v, %v", s, err)
	}
}

// TestCheckOfRealModels compares what is read by skipping with what Parse sees.
func TestCheckOfRealModels(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(testModels, "*", "*", "model.onnx"))
	if err != nil || len(files) < 20 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		short, _ := filepath.Rel(testModels, name)
		data := read(t, short)
		s, err := check(data)
		if err != nil {
			t.Errorf("%s: %v", short, err)
			continue
		}
		m := parse(t, data)
		if len(s.Inputs) != len(m.Inputs) || len(s.Outputs) != len(m.Outputs) || s.IRVersion != 8 || s.Opsets[""] != 18 {
			t.Errorf("%s: %+v", short, s)
		}
		top := 0
		for range m.Nodes {
			top++
		}
		if s.Nodes < top { // nodes of branches come on top
			t.Errorf("%s: %d nodes of %d", short, s.Nodes, top)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add([]byte(at("weights", "offset", "84")))
	f.Add([]byte(model(nested(3))))
	f.Add(read(f, "sd1/vae_decoder/model.onnx")[:2000])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := check(data)
		if err != nil {
			return
		}
		for _, location := range s.External {
			if _, err := sizes(location); err != nil {
				t.Errorf("accepted with weights in %q", location)
			}
		}
		// Whatever passes can be read by the editor too.
		if _, err := onnxfile.Parse(data); err != nil {
			t.Errorf("accepted, but %v", err)
		}
	})
}
