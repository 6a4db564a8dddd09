// Package secrets keeps what deployments must not tell the host: the values of
// password properties. They stay on the machine that deployed, in a file that
// only its user reads.
package secrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ovation-project/ovation/internal/atomicfile"
)

// fileName is the file's in a deployment's folder.
const fileName = "secrets"

// maxFile bounds what is read.
const maxFile = 16 << 20

// Values are secret values, by the ID of the virtual system and the full key of
// the property. Formatting them shows none.
type Values map[string]map[string]string

// String names no value.
func (v Values) String() string { return fmt.Sprintf("secrets of %d systems", len(v)) }

// GoString names no value.
func (v Values) GoString() string { return v.String() }

// Keep writes the values into a deployment's folder, which it makes where it is
// not there: for the user alone, and complete or not at all. Without values it
// writes nothing.
func Keep(dir string, v Values) error {
	if len(v) == 0 {
		return nil
	}
	text, err := json.Marshal(map[string]map[string]string(v))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	set := atomicfile.New(context.Background(), dir, atomicfile.Options{Replace: true})
	defer set.Abort()
	f, err := set.CreateFile(fileName)
	if err != nil {
		return err
	}
	if err := f.Chmod(0o600); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return set.Commit(context.Background())
}

// Read gives the values that a deployment's folder has, nil where it has none.
func Read(dir string) (Values, error) {
	f, err := os.Open(filepath.Join(dir, fileName)) // #nosec G304
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	var v map[string]map[string]string
	if err == nil && json.Unmarshal(text, &v) != nil {
		err = errors.New("not what was written") // what it holds is not repeated
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return v, nil
}

// Forget removes them. Where there are none is no error.
func Forget(dir string) error {
	err := os.Remove(filepath.Join(dir, fileName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
