package spec_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/ovation-project/ovation/author/spec"
)

func ExampleParse() {
	_, err := spec.Parse("appliance.yaml", []byte("machine:\n  id: web\n  hardwear: {cpus: 2}\n"))
	fmt.Println(err)

	a, err := spec.Parse("appliance.yaml", []byte("machine:\n  id: web\n  hardware: {cpus: 2, memory: 4GiB}\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(a.Machine.ID, a.Machine.Hardware[0].Memory)
	// Output:
	// appliance.yaml:3:3: unknown key "hardwear" in machine; did you mean hardware?
	// web 4GiB
}

// TestDocs reads the specifications in the documentation.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/build.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Error("there are none")
	}
	for _, b := range blocks {
		if _, err := spec.Parse("build.md", []byte(strings.TrimSpace(b[1]))); err != nil {
			t.Error(err)
		}
	}
}
