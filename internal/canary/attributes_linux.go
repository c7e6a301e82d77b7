package canary

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
)

// FindInAttributes searches the extended attributes of all that is in a folder.
func (s *Set) FindInAttributes(dir string) (hits []string, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		names := make([]byte, 1<<16)
		n, err := syscall.Listxattr(path, names)
		if errors.Is(err, syscall.ENOTSUP) {
			return nil
		}
		if err != nil {
			return err
		}
		for name := range strings.SplitSeq(strings.TrimRight(string(names[:n]), "\x00"), "\x00") {
			value := make([]byte, 1<<16)
			n, err := syscall.Getxattr(path, name, value)
			if err != nil {
				n = 0 // it has none, or it is not ours to read
			}
			for _, hit := range s.Find(append([]byte(name+"="), value[:n]...)) {
				hits = append(hits, "attribute of "+path+": "+hit)
			}
		}
		return nil
	})
	return hits, err
}
