package models_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgus/worker/internal/onnxtest"
	"github.com/imgus/worker/models"
)

const classifierManifest = `name: means
resize: {width: 10, height: 10, filter: bilinear}
jpeg: 75
input: {width: 8, height: 8, layout: nchw, channels: rgb}
output: {activation: none, labels: [red, green, blue]}
thresholds: {red: 0.5}
files: {model.onnx: SUM}
`

func classifierIn(t *testing.T, manifest string, model []byte) string {
	t.Helper()
	dir := t.TempDir()
	sum := sha256.Sum256(model)
	manifest = strings.ReplaceAll(manifest, "SUM", hex.EncodeToString(sum[:]))
	write(t, []byte(manifest), dir, models.ClassifierManifestName)
	write(t, model, dir, "model.onnx")
	return dir
}

func TestClassifier(t *testing.T) {
	model := onnxtest.ChannelMeans("in", "out", 8, 8)
	dir := classifierIn(t, classifierManifest, model)
	c, err := models.OpenClassifier(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Input.Scale != 1 || c.Input.Std != [3]float64{1, 1, 1} || c.Thresholds["red"] != 0.5 || c.JPEG != 75 {
		t.Errorf("got %+v", c)
	}
	if data, err := c.Read(); err != nil || !bytes.Equal(data, model) {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	sum := sha256.Sum256(model)
	line := sha256.Sum256([]byte(hex.EncodeToString(sum[:]) + "  model.onnx\n"))
	if want := "sha256:" + hex.EncodeToString(line[:]); c.Digest() != want {
		t.Errorf("digest is %s, want %s", c.Digest(), want)
	}
	write(t, append(model, 0), dir, "model.onnx")
	if _, err := c.Read(); !errors.Is(err, models.ErrRefused) {
		t.Errorf("another file passed: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "model.onnx")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file passed: %v", err)
	}
	c, err = models.OpenClassifier(classifierIn(t, classifierManifest, []byte("no model")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(); !errors.Is(err, models.ErrRefused) {
		t.Errorf("what is no model passed: %v", err)
	}
}

func TestClassifierManifestRefused(t *testing.T) {
	for from, to := range map[string]struct{ to, want string }{
		"name: means":     {"name: ../x", "name:"},
		"jpeg: 75":        {"jpeg: 101", "jpeg:"},
		"jpeg":            {"gif", "field gif not found"},
		"bilinear":        {"nearest", "resize: filter"},
		"width: 10":       {"width: 7", "resize: width"},
		"height: 10":      {"shorter: 10", "resize: give shorter"},
		"width: 8":        {"width: 0", "input: width"},
		"height: 8":       {"height: 5000", "input: width"},
		"nchw":            {"chw", "input: layout"},
		"rgb}":            {"grey}", "input: channels"},
		"channels: rgb":   {"channels: rgb, std: [1, 0, 1]", "input: scale"},
		"channels: rgb}":  {"channels: rgb, mean: [.nan, 0, 1]}", "input: scale"},
		"activation: no":  {"activation: so", "output: activation"},
		"green, blue":     {"red, blue", "output: labels"},
		"[red, green":     {"['a\\nb', green", "labels"},
		"red: 0.5":        {"pink: 0.5", "none of the labels"},
		"0.5":             {"1.5", "above 0"},
		"{red: 0.5}":      {"{}", "thresholds: one"},
		"model.onnx: SUM": {"model.onnx: 12", "files:"},
		"files:":          {"files: {other.onnx: SUM} #", "files:"},
	} {
		manifest := strings.Replace(classifierManifest, from, to.to, 1)
		if _, err := models.OpenClassifier(classifierIn(t, manifest, []byte("x"))); err == nil || !strings.Contains(err.Error(), to.want) {
			t.Errorf("%s: got %v, want %s", to.to, err, to.want)
		}
	}
	if _, err := models.OpenClassifier(t.TempDir()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a folder without a manifest: %v", err)
	}
}
