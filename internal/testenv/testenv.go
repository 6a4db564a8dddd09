// Package testenv says what a test needs of the machine it runs on.
package testenv

import (
	"os"
	"os/exec"
	"testing"
)

// NeedTool gives the path of a program. Where it is absent the test is skipped
// and says so; with CI=true in the environment it fails instead, since there
// nothing may pass for want of a tool.
func NeedTool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "the program "+name)
	}
	return path
}

// NeedFile is NeedTool for a file or folder.
func NeedFile(t testing.TB, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		Missing(t, path)
	}
	return path
}

// Missing skips the test for want of something, or fails it with CI=true.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is needed and not there; 'make test' installs what the tests need", what)
	}
	t.Skipf("%s is needed and not there; 'make test' installs what the tests need", what)
}
