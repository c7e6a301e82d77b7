package job_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/imgus/worker/job"
)

func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := os.ReadFile("job.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("job.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("job.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fields(v reflect.Type) []string {
	var names []string
	for f := range v.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func TestSchemaHasTheFieldsOfTheTypes(t *testing.T) {
	s := schema(t)
	if diff := cmp.Diff(fields(reflect.TypeFor[job.Job]()), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(fields(reflect.TypeFor[job.Output]()), slices.Sorted(maps.Keys(s.Properties["output"].Properties))); diff != "" {
		t.Error(diff)
	}
}

// TestSchemaAgrees draws documents near the rules' edges and compares the
// schema's judgement with the worker's own. What a schema cannot say (the sum
// of seed and images, the product of steps and strength) is drawn so that it
// does not matter.
func TestSchemaAgrees(t *testing.T) {
	s := schema(t)
	numbers := func(edges ...any) *rapid.Generator[any] { return rapid.SampledFrom(append(edges, nil, "x", true)) }
	names := func(known []string) *rapid.Generator[any] {
		values := []any{nil, "", "other", 1}
		for _, k := range known {
			values = append(values, k)
		}
		return rapid.SampledFrom(values)
	}
	pairs := rapid.SampledFrom([]any{nil, 1, []any{}, []any{1}, []any{1, 2}, []any{0, 0}, []any{1, 2, 3}, []any{1, nil}, []any{1, "x"}, []any{16384, 16385}, []any{1.5, 2}})
	edges := map[string]*rapid.Generator[any]{
		"version": numbers(1, 1, 1, 2), "id": rapid.SampledFrom([]any{"a", "a", "a.b-c_1", "", "-a", "a/b", strings.Repeat("a", 64), strings.Repeat("a", 65), nil}),
		"kind": rapid.SampledFrom([]any{"text-to-image", "image-to-image", "inpaint", "other", nil}), "model": rapid.SampledFrom([]any{"m", "m", "m.1", "", "a b", "../m", nil, 1}),
		"prompt": rapid.SampledFrom([]any{"", "p", strings.Repeat("é", 4000), strings.Repeat("é", 4001), nil, 1}), "negative_prompt": names(nil),
		"width": numbers(63, 64, 512, 2048, 2049), "height": numbers(63, 64, 512, 2048, 2049), "steps": numbers(0, 1, 150, 151, 2.5),
		"guidance_scale": numbers(-0.1, 0, 30, 30.1), "guidance_rescale": numbers(-0.1, 0, 1, 1.1), "image_guidance_scale": numbers(-1, 0, 10, 11),
		"seed": numbers(-1, 0, 1<<52, int64(1)<<53, 0.5), "images": numbers(0, 1, 8, 9), "scheduler": names(job.Schedulers()), "strength": numbers(-1, 1, 2),
		"clip_skip": numbers(-1, 0, 8, 9), "input": names([]string{"inputs/a"}), "mask": names([]string{"inputs/b"}), "keep_input": numbers(false),
		"subject": rapid.SampledFrom([]any{"u", "", strings.Repeat("u", 256), strings.Repeat("u", 257), nil}), "created_at": names([]string{"2026-12-01T00:00:00Z", "2026-12-01"}),
		"expires_at": names([]string{"2026-12-01T00:00:00+02:00"}), "promt": names(nil),
		"prompt_2": names(nil), "negative_prompt_2": names(nil), "prompt_syntax": names([]string{"plain", "weighted"}),
		"original_size": pairs, "target_size": pairs, "crop": pairs,
		"output": rapid.SampledFrom([]any{nil, 1, map[string]any{}, map[string]any{"format": "webp", "quality": 100}, map[string]any{"format": nil}, map[string]any{"format": "gif"}, map[string]any{"quality": 101}, map[string]any{"q": 1}}),
	}
	good := map[string]any{"version": 1, "id": "a", "kind": "text-to-image", "model": "m", "prompt": ""}
	rapid.Check(t, func(t *rapid.T) {
		doc := maps.Clone(good)
		for range rapid.IntRange(0, 5).Draw(t, "changes") {
			name := rapid.SampledFrom(slices.Sorted(maps.Keys(edges))).Draw(t, "field")
			doc[name] = edges[name].Draw(t, "value")
		}
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		bySchema := s.Validate(parsed)
		_, byWorker := job.Parse(data, job.Limits{})
		if (bySchema == nil) != (byWorker == nil) {
			t.Fatalf("%s\nschema: %v\nworker: %v", data, bySchema, fmt.Sprint(byWorker))
		}
	})
}
