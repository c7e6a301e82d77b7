package models

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgus/worker/models/onnxfile"
)

// copyFiles copies a model's files, and gives the SHA-256 of each. They are on
// the disk when it returns.
func copyFiles(ctx context.Context, s *source, to string, progress func(step string, done, total int64)) (map[string]string, error) {
	total, done := int64(0), int64(0)
	for _, f := range s.files {
		total += f.size
	}
	sums := map[string]string{}
	for _, f := range s.files {
		if f.path == ManifestName {
			continue // it is written anew
		}
		target := filepath.Join(to, filepath.FromSlash(f.path))
		if err := makeFolder(filepath.Dir(target)); err != nil {
			return nil, err
		}
		sum, err := copyFile(ctx, s.root, f, target, func(n int) {
			done += int64(n)
			progress("copying", done, total)
		})
		if err != nil {
			return nil, fmt.Errorf("copy %q: %w", f.path, err)
		}
		sums[f.path] = sum
	}
	return sums, nil
}

func copyFile(ctx context.Context, root *os.Root, f file, target string, progress func(n int)) (string, error) {
	in, err := root.Open(filepath.FromSlash(f.path))
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := sha256.New()
	err = writeSynced(target, func(out *os.File) error {
		buffer, _ := buffers.Get().(*[1 << 20]byte)
		defer buffers.Put(buffer)
		copied := int64(0)
		for {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			n, err := in.Read(buffer[:])
			sum.Write(buffer[:n])
			// A file may grow while it is copied, but not for ever.
			if copied += int64(n); copied > f.size {
				return refuse(f.path, "it changed while it was copied")
			}
			if _, err := out.Write(buffer[:n]); err != nil {
				return err
			}
			progress(n)
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
		}
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}

// writeSynced makes a file, lets write fill it, and sees it onto the disk.
func writeSynced(name string, write func(f *os.File) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // models are no secret
	if err != nil {
		return err
	}
	if err = f.Chmod(0o644); err == nil { // whatever the umask
		err = write(f)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// makeFolder makes a folder and those above it that everybody may read, whatever
// the umask: the worker is seldom the user who imports.
func makeFolder(dir string) error {
	err := os.Mkdir(dir, 0o755) //nolint:gosec // models are no secret
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeFolder(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o755) //nolint:gosec // as above
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err == nil {
		err = os.Chmod(dir, 0o755) //nolint:gosec // as above
	}
	return err
}

// syncFolders sees the names in a folder and below onto the disk.
func syncFolders(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncFolder(name)
	})
}

func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// vectorTimestep lets the UNet of a staged model take a timestep per sample, if
// its graph can be edited so and then predicts the same noise.
func vectorTimestep(ctx context.Context, stage string, sums map[string]string, o ImportOptions) error {
	const unet = "unet/model.onnx"
	name := filepath.Join(stage, filepath.FromSlash(unet))
	edited := name + ".edited" // beside it: external data is looked for there
	sum, err := writeEdited(name, edited)
	if errors.Is(err, onnxfile.ErrPrologue) {
		o.Progress("the timestep stays one for the batch", 0, 0)
		return nil
	}
	if err != nil || sum == "" {
		return err
	}
	o.Progress("comparing the noise with a timestep per sample", 0, 0)
	err = o.SameNoise(ctx, name, edited)
	if errors.Is(err, ErrUneditable) {
		o.Progress("the timestep stays one for the batch", 0, 0)
		return os.Remove(edited)
	}
	if err != nil {
		return fmt.Errorf("compare %q with a timestep per sample: %w", unet, err)
	}
	sums[unet] = sum
	return os.Rename(edited, name)
}

// writeEdited writes the edited graph and gives its SHA-256; "" if there was
// nothing to edit.
func writeEdited(name, edited string) (string, error) {
	data, unmap, err := onnxfile.Map(name)
	if err != nil {
		return "", err
	}
	defer unmap()
	m, err := onnxfile.Parse(data)
	if err != nil {
		return "", err
	}
	if changed, err := m.VectorTimestep("timestep"); err != nil || !changed {
		return "", err
	}
	sum := sha256.New()
	err = writeSynced(edited, func(f *os.File) error {
		w := bufio.NewWriterSize(io.MultiWriter(f, sum), 1<<20)
		if _, err := m.WriteTo(w); err != nil {
			return err
		}
		return w.Flush()
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}
