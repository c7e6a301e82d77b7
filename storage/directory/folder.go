package directory

import (
	"path"

	"golang.org/x/sys/unix"
)

// removeFolder removes a folder if it is empty. os.Root.Remove would also remove
// a file, such as an object that another process has put there meanwhile.
func (b *Bucket) removeFolder(name string) error {
	parent, err := b.root.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer parent.Close()
	return unix.Unlinkat(int(parent.Fd()), path.Base(name), unix.AT_REMOVEDIR)
}
