package secrets_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ovation-project/ovation/deploy/secrets"
)

func TestKeepReadForget(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if v, err := secrets.Read(dir); v != nil || err != nil {
		t.Errorf("%v, %v", v, err)
	}
	if err := secrets.Forget(dir); err != nil {
		t.Error(err)
	}
	for _, want := range []secrets.Values{{"web": {"admin": "hunter2\n\"é"}}, {"db": {"a": "", "b": "x"}}} {
		if err := secrets.Keep(dir, want); err != nil {
			t.Fatal(err)
		}
		got, err := secrets.Read(dir)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		info, err := os.Stat(filepath.Join(dir, "secrets"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder is %v, %v", info.Mode(), err)
	}
	if err := secrets.Forget(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestNothingIsShown(t *testing.T) {
	v := secrets.Values{"web": {"admin": "hunter2"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if s := fmt.Sprintf(format, v); strings.Contains(s, "hunter2") {
			t.Errorf("%s shows %s", format, s)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "secrets"), []byte(`{"web": {"admin": "hunter2"`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secrets.Read(dir); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}

func ExampleKeep() {
	dir, _ := os.MkdirTemp("", "")
	defer os.RemoveAll(dir)
	_ = secrets.Keep(dir, secrets.Values{"web": {"admin": "hunter2"}})
	v, _ := secrets.Read(dir)
	fmt.Println(v)
	// Output: secrets of 1 systems
}
