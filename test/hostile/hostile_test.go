// Package hostile attacks the program with packages that mean harm, and keeps
// the table in docs/security.md true.
package hostile

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	// maxMemory is what no attack may make the program take, in bytes.
	maxMemory = 400 << 20
	// maxOutput is what no attack may make it print, in bytes: more than the
	// largest descriptor holds.
	maxOutput = 64 << 20
	// maxTime is generous: it is there to end what does not end by itself.
	maxTime = 60 * time.Second
)

// program is the path of the program under test; TestMain builds it.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ovation-hostile-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "ovation")
	build := exec.Command("go", "build", "-o", program, "../../cmd/ovation")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// ovation runs the program in dir, which is all that it may change.
func ovation(t *testing.T, dir string, stdin []byte, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), maxTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Join(dir, "work")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + filepath.Join(dir, "tmp"), "HOME=" + filepath.Join(dir, "home"), "LC_ALL=C"}
	for _, name := range []string{"OVATION_VSPHERE_USER", "OVATION_VSPHERE_PASSWORD", "SSL_CERT_FILE"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	var out, text bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &text
	err := cmd.Run()
	line := "ovation " + strings.Join(args, " ")
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", line, err)
	}
	if ctx.Err() != nil {
		t.Errorf("%s: did not end in %v", line, maxTime)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss<<10 > maxMemory {
		t.Errorf("%s: it took %d MiB of memory", line, usage.Maxrss>>10)
	}
	if strings.Contains(text.String(), "goroutine ") {
		t.Errorf("%s: panicked:\n%s", line, text.String())
	}
	if n := out.Len() + text.Len(); n > maxOutput {
		t.Errorf("%s: it printed %d MiB", line, n>>20)
	}
	for _, b := range [][]byte{out.Bytes(), text.Bytes()} {
		if i := bytes.IndexAny(b, "\x1b\x07\x9b\u009b\u202e"); i >= 0 {
			t.Errorf("%s: a control character is in its output: %q", line, b[max(0, i-20):min(len(b), i+20)])
		}
	}
	return cmd.ProcessState.ExitCode(), out.String(), text.String()
}

// listing gives all below dir, with sizes.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		size := int64(0)
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		name, _ := filepath.Rel(dir, path)
		fmt.Fprintf(&b, "%s %v %d\n", name, d.Type(), size)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// secret is the content of a file outside of every package.
const secret = "nobody may see this"

// victim makes the folders of one attack: work, which the program runs in, and
// beside it what it must not touch.
func victim(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"work", "tmp", "home"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "outside"), bytes.Repeat([]byte(secret), 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestHostile is every attack of the corpus: the exit code and the message that
// the table says, nothing written, nothing left, time and memory bounded.
func TestHostile(t *testing.T) {
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			dir := victim(t)
			data := a.make(t, dir)
			name := a.file
			if name == "" {
				name = "a.ova"
			}
			if data != nil {
				if err := os.WriteFile(filepath.Join(dir, "work", name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := listing(t, dir)
			// harmless runs the program, and wants what holds for every attack.
			harmless := func(stdin []byte, args ...string) (code int, stderr string) {
				t.Helper()
				code, stdout, stderr := ovation(t, dir, stdin, args...)
				line := "ovation " + strings.Join(args, " ")
				if strings.Contains(stdout+stderr, secret) {
					t.Errorf("%s: shows a file outside of the package", line)
				}
				if code == 0 {
					removeOutput(t, dir)
				}
				if after := listing(t, dir); after != before {
					t.Errorf("%s: exit code %d, left something behind\n%s\nbefore:\n%s", line, code, after, before)
				}
				return code, stderr
			}
			check := func(says string, stdin []byte, args ...string) {
				t.Helper()
				code, stderr := harmless(stdin, args...)
				line := "ovation " + strings.Join(args, " ")
				if code != a.code {
					t.Errorf("%s: exit code %d, want %d\n%s", line, code, a.code, stderr)
				}
				if !strings.Contains(stderr, says) && args[0] != "lint" { // whose findings are its output
					t.Errorf("%s: does not say %q:\n%s", line, says, stderr)
				}
			}
			named := func(c, name string) []string { return strings.Fields(strings.ReplaceAll(c, "NAME", name)) }
			commands := a.commands
			if commands == nil {
				commands = []string{"inspect NAME", "verify NAME", "run --dry-run NAME"}
				if a.thorough {
					commands = everything
				}
			}
			for _, c := range commands {
				check(a.says, nil, named(c, name)...)
				if c == "verify NAME" && strings.HasSuffix(name, ".ova") {
					check(a.says, data, "verify", "-")
				}
				if (c == "inspect NAME" || c == "verify NAME") && strings.HasSuffix(name, ".ova") {
					s := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "work"))))
					check(a.says, nil, named(c, s.URL+"/"+name)...)
					s.Close()
				}
			}
			if a.once {
				check(a.says, data, "disk", "convert", "-", "out.qcow2", "--disk", "d")
				check(a.says, data, "run", "--headless", "--accel", "tcg", "-")
			}
			if a.web {
				s := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, "work"))))
				check(a.says, nil, "disk", "convert", s.URL+"/"+name+"#d", "out.qcow2")
				s.Close()
			}
			for _, c := range a.also {
				check("", nil, named(c, name)...)
			}
			if a.commands != nil {
				for _, c := range everything {
					if !slices.Contains(commands, c) && !slices.Contains(a.also, c) {
						harmless(nil, named(c, name)...)
					}
				}
			}
		})
	}
}

// removeOutput removes what a command was asked to write.
func removeOutput(t *testing.T, dir string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "work", "out*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if err := os.RemoveAll(name); err != nil {
			t.Fatal(err)
		}
	}
}

const page = "../../docs/security.md"

// row is an attack in the page's table: | attack | message | exit code | test |
var row = regexp.MustCompile(`^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$`)

// TestTableIsTrue compares the page with the tests: each attack of the corpus is
// in the table as it is tested, and every test that the table names exists.
func TestTableIsTrue(t *testing.T) {
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	tests := testFunctions(t)
	rows := map[string]bool{}
	for line := range strings.SplitSeq(string(text), "\n") {
		m := row.FindStringSubmatch(line)
		if m == nil || strings.HasPrefix(m[1], "---") || m[1] == "attack" {
			continue
		}
		rows[line] = true
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(m[4], -1) {
			pkg, fn, _ := strings.Cut(name[1], ".")
			fn, sub, _ := strings.Cut(fn, "/")
			if !tests[pkg+"."+fn] {
				t.Errorf("the table names %s, and there is no such test", name[1])
			}
			if fn == "TestHostile" && !inCorpus(sub) {
				t.Errorf("the table names %s, and there is no such attack", name[1])
			}
		}
	}
	if len(rows) < len(attacks) {
		t.Errorf("the table has %d rows, and there are %d attacks", len(rows), len(attacks))
	}
	for _, a := range attacks {
		if want := a.row(); !rows[want] {
			t.Errorf("the table lacks this row:\n%s", want)
		}
	}
}

func (a attack) row() string {
	said := "“" + strings.ReplaceAll(a.says, "|", "\\|") + "”"
	if a.says == "" {
		said = a.instead
	}
	return fmt.Sprintf("| %s | %s | %d | `test/hostile.TestHostile/%s` |", a.what, said, a.code, a.name)
}

func inCorpus(name string) bool {
	for _, a := range attacks {
		if a.name == name {
			return true
		}
	}
	return false
}

// testFunctions are all tests of the project: folder.TestName.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range function.FindAllSubmatch(text, -1) {
			dir, _ := filepath.Rel("../..", filepath.Dir(path))
			found[filepath.ToSlash(dir)+"."+string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
