package lint

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

// TestDocs sees that the table in the documentation is the code's. With
// UPDATE_DOCS set it is written.
func TestDocs(t *testing.T) {
	const path = "../../docs/lint.md"
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(have), "| rule |")
	if !ok {
		head = string(have)
	}
	var want bytes.Buffer
	want.WriteString(head)
	if err := WriteTable(&want); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(have, want.Bytes()) {
		return
	}
	if os.Getenv("UPDATE_DOCS") == "" {
		t.Fatalf("the table of rules in %s is stale: run 'go generate ./ovf/lint'", path)
	}
	if err := os.WriteFile(path, want.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
