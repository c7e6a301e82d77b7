package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/imgus/worker/internal/testservices"
)

// TestInstallForSystemd runs the commands of docs/install.md as they stand there,
// below a folder, with an umask that is narrow; what they leave is all that the
// unit needs.
func TestInstallForSystemd(t *testing.T) {
	library := testservices.ONNXRuntime(t)
	page := string(readFile(t, "../../docs/install.md"))
	_, section, _ := strings.Cut(page, "\n## systemd\n")
	block := shell.FindStringSubmatch(section)
	if len(block) != 2 || !strings.Contains(block[1], "systemctl daemon-reload") {
		t.Fatal("the page has no commands")
	}
	root := t.TempDir()
	below := strings.NewReplacer("/etc/", root+"/etc/", "/var/lib/", root+"/var/lib/", "/usr/local/", root+"/usr/local/", "%d", root+"/etc/imgus/secrets", "%C", root+"/cache")
	var commands []string
	for line := range strings.Lines(below.Replace(block[1])) {
		if !strings.Contains(line, "systemctl") {
			commands = append(commands, line)
		}
	}
	this, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := strings.NewReplacer("bin/worker "+root, this+" "+root, `"$(scripts/onnxruntime.sh cuda13)"`, library, "./stable-diffusion-v1-5-onnx", "testdata/models/sd1").Replace(strings.Join(commands, ""))
	// The binary of this test is the worker.
	script = "set -e; umask 077; mkdir -p usr/local/bin usr/local/lib etc/systemd/system; cd \"$REPOSITORY\"\n" +
		strings.ReplaceAll(script, this+" "+root+"/usr/local/bin/\n", this+" "+root+"/usr/local/bin/worker\n")
	editor := writeFile(t, filepath.Join(root, "editor"), []byte("sed -i -e 's|^  bucket: .*|  bucket: imgus|' -e '/^storage:/,/^engine:/s|^  endpoint: \"\"|  endpoint: s3.example.com|' \"$1\"\n"))
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	bash := exec.CommandContext(t.Context(), "bash", "-c", script)
	bash.Dir, bash.Stdin = root, strings.NewReader("one\ntwo\nthree\n")
	bash.Env = append(os.Environ(), "EDITOR=bash "+editor, "REPOSITORY="+repository, "PATH="+root+"/usr/local/bin:"+os.Getenv("PATH"), "IMGUS_TEST_COMMAND=import", "IMGUS_ENGINE_LIBRARY="+library,
		"XDG_CACHE_HOME="+t.TempDir())
	if out, err := bash.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, script, out)
	}

	var environ []string
	unit := below.Replace(string(readFile(t, root, "etc/systemd/system/imgus-worker.service")))
	for _, match := range regexp.MustCompile(`(?m)^Environment=(IMGUS_.*)$`).FindAllStringSubmatch(unit, -1) {
		environ = append(environ, match[1])
	}
	p := newProgram(t, environ...)
	p.must(0, "config", "check")
	if stdout, _ := p.must(0, "models", "list"); !strings.Contains(stdout, "sd15") {
		t.Error(stdout)
	}
	for name, want := range map[string]os.FileMode{
		"etc/imgus/worker.yaml": 0o644, "etc/imgus/secrets": 0o700, "etc/imgus/secrets/s3-secret-key": 0o600, "var/lib/imgus/models/sd15/model_index.json": 0o644,
		"var/lib/imgus/models/sd15": 0o755, "usr/local/bin/worker": 0o755,
	} {
		if info, err := os.Stat(filepath.Join(root, name)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}
