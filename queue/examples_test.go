package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgus/worker/internal/testservices"
	"github.com/imgus/worker/job"
	"github.com/imgus/worker/queue"
	"github.com/imgus/worker/queue/seal"
)

// languages run an example of docs/examples, and a program that seals the
// test vectors with it.
var languages = map[string]struct{ example, vectors []string }{
	"python": {[]string{"bin/python", "enqueue.py"}, []string{"bin/python", "-c", `
import base64, enqueue, json, sys
for v in json.load(sys.stdin):
    print(enqueue.seal(v["job"].encode(), v["queue"], v["id"], v["key_id"], base64.b64decode(v["key"]), base64.b64decode(v["nonce"])).decode())
`}},
	"node": {[]string{"bin/node", "enqueue.mjs"}, []string{"bin/node", "--input-type=module", "-e", `
import { seal } from "./enqueue.mjs";
import { readFileSync } from "node:fs";
for (const v of JSON.parse(readFileSync(0)))
    console.log(seal(Buffer.from(v.job), v.queue, v.id, v.key_id, Buffer.from(v.key, "base64"), Buffer.from(v.nonce, "base64")).toString());
`}},
}

func example(t testing.TB, command []string, args ...string) *exec.Cmd {
	t.Helper()
	// By a link, as programs are often installed.
	dir := filepath.Join(t.TempDir(), "examples")
	if err := os.Symlink(testservices.Examples(t), dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(dir, command[0]), append(slices.Clone(command[1:]), args...)...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	return cmd
}

// begun notes the headers of every attempt.
type begun struct {
	queue.Observer

	headers chan map[string]string
}

func (b begun) Began(ctx context.Context, _ string, headers map[string]string) context.Context {
	b.headers <- headers
	return ctx
}
func (begun) Ended(context.Context, queue.End)     {}
func (begun) Command(string, time.Duration, error) {}

// Producers in other languages, with the rights of a producer alone, enqueue
// jobs that arrive as they were meant, sealed and not, and follow them to their
// end.
func TestExamples(t *testing.T) {
	t.Parallel()
	users, err := os.ReadFile("../deploy/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	rules := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(users)), "\n"), func(line string) bool { return strings.HasPrefix(line, "#") })
	server := testservices.StartRedis(t, testservices.RedisOptions{Users: rules})
	got := make(chan *job.Job, 16) // a test that fails leaves some
	h := newHandler(func(ctx context.Context, j *job.Job, a job.Attempt, report func(job.Progress)) (job.Outcome, error) {
		got <- j
		if strings.HasSuffix(j.ID, "erased") {
			return job.Outcome{State: job.Erased}, nil
		}
		return done(ctx, j, a, report)
	})
	opts := options(queue.Connection{URL: server.Addr, Username: "worker", Password: "change-me-worker"}, h)
	dir := keyFolder(t, "2026-11")
	opts.Keys = seal.Keys{Directory: dir, Required: true}
	opts.Queues = map[string]int{"sealed": 1}
	plain := options(opts.Connection, h)
	plain.Queues = map[string]int{"plain": 1, "erased": 1}
	seen := begun{headers: make(chan map[string]string, 16)}
	opts.Observer, plain.Observer = seen, seen
	start(t, opts)
	start(t, plain)

	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for _, language := range slices.Sorted(maps.Keys(languages)) {
		for form, args := range map[string][]string{"plain": nil, "sealed": {filepath.Join(dir, "2026-11")}, "erased": nil} {
			t.Run(language+" "+form, func(t *testing.T) {
				want := newJob(language + "-" + form)
				want.Prompt = new(strings.Repeat("ein Stück Käsekuchen 🍰 ", 100))
				data, err := json.Marshal(want)
				if err != nil {
					t.Fatal(err)
				}
				file := filepath.Join(t.TempDir(), "job.json")
				if err := os.WriteFile(file, data, 0o600); err != nil {
					t.Fatal(err)
				}
				cmd := example(t, languages[language].example, append([]string{"redis://producer:change-me-producer@" + server.Addr + "/0", form, file}, args...)...)
				cmd.Env = append(os.Environ(), "TRACEPARENT="+trace)
				out, err := cmd.Output()
				state := "done"
				if form == "erased" {
					state = form
				}
				if (err == nil) != (state == "done") {
					t.Fatalf("%v: %s", err, out)
				}
				if diff := cmp.Diff(want, <-got); diff != "" {
					t.Error(diff)
				}
				if headers := <-seen.headers; headers["traceparent"] != trace {
					t.Errorf("headers are %v", headers)
				}
				var status struct{ State, ResultKey string }
				if err := json.Unmarshal(bytes.ReplaceAll(out, []byte("result_key"), []byte("ResultKey")), &status); err != nil || status.State != state || status.ResultKey == "" {
					t.Errorf("it says %s: %v", out, err)
				}
			})
		}
	}
}

// What the page says before its programs makes a job and a key that they take.
func TestExampleOfTheWireFormat(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/wire-format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "```sh\n")
	commands, rest, _ := strings.Cut(block, "\npip install")
	_, arguments, _ := strings.Cut(rest, "6379/0 ")
	arguments, _, _ = strings.Cut(arguments, "\n")
	words := strings.Fields(arguments)
	if len(words) != 3 {
		t.Fatalf("the page calls with %q", arguments)
	}
	dir := t.TempDir()
	bash := exec.CommandContext(t.Context(), "bash", "-e", "-c", commands)
	bash.Dir = dir
	if out, err := bash.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	data, err := os.ReadFile(filepath.Join(dir, words[1]))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := job.Parse(data, job.Limits{}); err != nil {
		t.Error(err)
	}
	folder, id := filepath.Split(filepath.Join(dir, words[2]))
	keys, wrong, err := seal.Keys{Directory: folder}.List()
	if err != nil || len(wrong) > 0 || len(keys) != 1 || keys[0].ID != id {
		t.Errorf("keys are %v, %v, %v", keys, wrong, err)
	}
}

func TestExamplesSealTheVectors(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("seal/testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Sealed any }
	if err := json.Unmarshal(data, &vectors); err != nil {
		t.Fatal(err)
	}
	for name, language := range languages {
		cmd := example(t, language.vectors)
		cmd.Stdin = bytes.NewReader(data)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
		if len(lines) != len(vectors) {
			t.Fatalf("%s seals %d of %d vectors", name, len(lines), len(vectors))
		}
		for i, line := range lines {
			var sealed any
			if err := json.Unmarshal(line, &sealed); err != nil || !cmp.Equal(sealed, vectors[i].Sealed) {
				t.Errorf("%s seals vector %d as %s, %v", name, i, line, err)
			}
		}
	}
}
