package job_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/imgus/worker/job"
)

const minimal = `{"version":1,"id":"a","kind":"text-to-image","model":"demo","prompt":""}`

func TestDecodeFull(t *testing.T) {
	data, err := os.ReadFile("testdata/full.json")
	if err != nil {
		t.Fatal(err)
	}
	j, err := job.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Validate(job.Limits{}); err != nil {
		t.Fatal(err)
	}
	// Nothing is lost on the way: what was read is written again.
	again, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := errors.Join(json.Unmarshal(data, &want), json.Unmarshal(again, &got)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAbsentNullAndZero(t *testing.T) {
	absent, _ := job.Decode([]byte(minimal))
	null, err := job.Decode([]byte(`{"version":1,"id":"a","kind":"text-to-image","model":"demo","prompt":"","seed":null,"guidance_scale":null,"output":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(absent, null); diff != "" {
		t.Error("null differs from absent:", diff)
	}
	zero, err := job.Decode([]byte(`{"version":1,"id":"a","kind":"text-to-image","model":"demo","prompt":"","seed":0,"guidance_scale":0,"negative_prompt":""}`))
	if err != nil {
		t.Fatal(err)
	}
	if zero.Seed == nil || zero.GuidanceScale == nil || zero.NegativePrompt == nil {
		t.Error("zero was taken for absent")
	}
}

func TestProblems(t *testing.T) {
	with := func(fields string) string { return strings.TrimSuffix(minimal, "}") + "," + fields + "}" }
	tests := []struct {
		name, json string
		want       []string
	}{
		{"not JSON", `hello`, []string{"one JSON object"}},
		{"array", `[1]`, []string{"one JSON object"}},
		{"trailing bytes", minimal + "{}", []string{"one JSON object"}},
		{"cut", minimal[:30], []string{"one JSON object"}},
		{"typo", with(`"guidance_scal":3`), []string{"guidance_scal: unknown field; did you mean guidance_scale?"}},
		{"other case", with(`"Seed":3`), []string{"Seed: unknown field; did you mean seed?"}},
		{"nested typo", with(`"output":{"fromat":"png"}`), []string{"output.fromat: unknown field"}},
		{"content as a name", with(`"a photo of my house":1`), []string{"(a name that is no field name): unknown field"}},
		{"twice", with(`"seed":1,"seed":2`), []string{"seed: given twice"}},
		{"types", with(`"seed":"x","steps":1.5,"keep_input":1,"expires_at":"tomorrow","strength":"a","output":3`), []string{
			"seed: must be an integer", "steps: must be an integer", "keep_input: must be true or false",
			"expires_at: must be a time", "strength: must be a number", "output: must be an object",
		}},
		{"all at once", `{"version":1,"id":"a","kind":"text-to-image","model":"a model","prompt":7,"stepz":3,"images":99}`, []string{
			"stepz: unknown field; did you mean steps?", "prompt: must be a string", "model: required", "images: must be from 1 to 8",
		}},
		{"nothing", `{}`, []string{"version", "id", "kind", "model", "prompt"}},
		{"id", strings.Replace(minimal, `"a"`, `"../a"`, 1), []string{"id: required"}},
		{"one side", with(`"width":512`), []string{"give both or none"}},
		{"sides", with(`"width":63,"height":2049`), []string{"width: must be from 64 to 2048", "height: must be from 64 to 2048"}},
		{"ranges", with(`"steps":0,"images":9,"guidance_scale":30.5,"guidance_rescale":-0.1,"image_guidance_scale":11,"strength":1.1,"clip_skip":9,"output":{"format":"gif","quality":0}`), []string{
			"steps: must be from 1 to 150", "images: must be from 1 to 8", "guidance_scale: must be from 0 to 30", "guidance_rescale: must be from 0 to 1",
			"image_guidance_scale: must be from 0 to 10", "strength: must be from 0 to 1", "clip_skip: must be from 0 to 8",
			"output.format: must be one of png, jpeg, webp", "output.quality: must be from 1 to 100",
		}},
		{"negative seed", with(`"seed":-1`), []string{"seed: must be from 0"}},
		{"seed of the last image", with(`"seed":9007199254740991,"images":2`), []string{"seed: must be from 0 to 9007199254740990"}},
		{"scheduler", with(`"scheduler":"magic"`), []string{"scheduler: must be one of euler,"}},
		{"input not wanted", with(`"input":"inputs/a"`), []string{"input: not for text-to-image"}},
		{"input wanted", strings.Replace(minimal, "text-to-image", "image-to-image", 1), []string{"input: required for image-to-image"}},
		{"mask wanted", strings.Replace(minimal, "text-to-image", "inpaint", 1), []string{"input: required", "mask: required"}},
		{"no step left", `{"version":1,"id":"a","kind":"image-to-image","model":"m","prompt":"","input":"inputs/a","steps":5,"strength":0.1}`, []string{"steps x strength"}},
		{"long prompt", with(`"negative_prompt":"` + strings.Repeat("é", 4001) + `"`), []string{"negative_prompt: must be at most 4000 characters"}},
		{"huge", with(`"subject":"` + strings.Repeat("x", job.MaxPayload) + `"`), []string{"at most 65536 bytes"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := job.Parse([]byte(tt.json), job.Limits{})
			e, ok := errors.AsType[*job.Error](err)
			if !ok || e.Code != job.InvalidJob {
				t.Fatalf("got %v, want an invalid_job error", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(e.Message, want) {
					t.Errorf("message %q lacks %q", e.Message, want)
				}
			}
		})
	}
}

func TestBounds(t *testing.T) {
	good := []string{
		`"seed":9007199254740991`, `"seed":9007199254740984,"images":8`, `"steps":150`, `"steps":1`, `"guidance_scale":0`,
		`"width":64,"height":2048`, `"clip_skip":8`, `"output":{"format":"webp","quality":100}`,
	}
	for _, fields := range good {
		j, err := job.Decode([]byte(strings.TrimSuffix(minimal, "}") + "," + fields + "}"))
		if err == nil {
			err = j.Validate(job.Limits{})
		}
		if err != nil {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

func TestRefusedJobKeepsItsInputs(t *testing.T) {
	j, err := job.Decode([]byte(`{"version":1,"id":"a","typo":1,"input":"inputs/p","mask":"inputs/m"}`))
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff([]string{"inputs/p", "inputs/m"}, j.InputKeys()); diff != "" {
		t.Error(diff)
	}
}

// A photo that others may need is not lost to a typo.
func TestMistypedKeepInputKeeps(t *testing.T) {
	for fields, want := range map[string]bool{
		`"keep_input":"yes"`: true, `"keep_inputs":true`: true, `"Keep_input":false`: true,
		`"keep_input":false`: false, `"stepz":1`: false, `"output":{"keep_input":true}`: false,
	} {
		j, _ := job.Parse([]byte(strings.TrimSuffix(minimal, "}")+","+fields+"}"), job.Limits{})
		if j.KeepInput != want {
			t.Errorf("%s: keep_input is %v", fields, j.KeepInput)
		}
	}
}

func TestAFieldIsBlamedOnce(t *testing.T) {
	_, err := job.Parse([]byte(`{"version":1,"id":"a","kind":"text-to-image","model":"m","prompt":7}`), job.Limits{})
	if err == nil || strings.Count(err.Error(), "prompt") != 1 {
		t.Errorf("got %v", err)
	}
}

func TestConfigNarrows(t *testing.T) {
	j, err := job.Decode([]byte(strings.TrimSuffix(minimal, "}") + `,"steps":60,"width":1024,"height":1024}`))
	if err != nil {
		t.Fatal(err)
	}
	err = j.Validate(job.Limits{Steps: 50, Pixels: 512 * 512})
	if err == nil || !strings.Contains(err.Error(), "from 1 to 50") || !strings.Contains(err.Error(), "262144 pixels") {
		t.Errorf("got %v", err)
	}
	if got := job.HardLimits().Narrow(job.Limits{Steps: 1000}).Steps; got != 150 {
		t.Errorf("a limit was widened to %d", got)
	}
}

func TestSeedFromID(t *testing.T) {
	j := &job.Job{ID: "abc"}
	// SHA-256("abc") begins ba 78 16 bf.
	if got := j.EffectiveSeed(); got != 0xba7816bf {
		t.Errorf("got %x", got)
	}
	seed := int64(0)
	j.Seed = &seed
	if got := j.EffectiveSeed(); got != 0 {
		t.Errorf("an explicit zero became %d", got)
	}
}

func TestExpired(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if (&job.Job{}).Expired(now) || !(&job.Job{ExpiresAt: &now}).Expired(now) || (&job.Job{ExpiresAt: &now}).Expired(now.Add(-1)) {
		t.Error("expiry is wrong")
	}
}

func TestNaNIsOutOfRange(t *testing.T) {
	nan := math.NaN()
	j := &job.Job{GuidanceScale: &nan}
	if err := j.Validate(job.Limits{}); !strings.Contains(err.Error(), "guidance_scale") {
		t.Errorf("got %v", err)
	}
}

func TestValidIDsAreSafeNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.String().Draw(t, "id")
		if job.ValidID(id) && (strings.ContainsAny(id, "/\\ \n\x00") || strings.HasPrefix(id, ".") || len(id) > 64) {
			t.Errorf("%q is accepted", id)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(minimal))
	f.Add([]byte(`{"output":{"format":null},"seed":1e400}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := job.Decode(data)
		if j == nil {
			t.Fatal("no job")
		}
		if err == nil && j.Validate(job.Limits{}) == nil && !job.ValidID(j.ID) {
			t.Fatal("a valid job without a valid id")
		}
	})
}
