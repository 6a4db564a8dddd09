// Package statedir is where the program keeps what outlives it: of a user, and
// not of a machine that others use too.
package statedir

import (
	"fmt"
	"os"
	"path/filepath"
)

// Path is a place below ovation in $XDG_STATE_HOME, or in ~/.local/state where
// that is not set.
func Path(elem ...string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("a place for what is kept of deployments: %w; set XDG_STATE_HOME", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(append([]string{base, "ovation"}, elem...)...), nil
}
