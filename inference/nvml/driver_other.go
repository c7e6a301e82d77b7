//go:build !linux || !cgo

package nvml

// Driver is not there.
type Driver struct{}

// Open gives ErrNoDriver.
func Open() (*Driver, error) { return nil, ErrNoDriver }

// Close does nothing.
func (d *Driver) Close() error { return nil }

// GPU is not there.
type GPU struct{}

// Count gives ErrNoDriver.
func (d *Driver) Count() (int, error) { return 0, ErrNoDriver }

// Find gives ErrNoDriver.
func (d *Driver) Find(int, Visible) (*GPU, error) { return nil, ErrNoDriver }

// Facts gives ErrNoDriver.
func (g *GPU) Facts() (Facts, error) { return Facts{}, ErrNoDriver }

// Own is unknown.
func (g *GPU) Own() (int64, bool) { return 0, false }
