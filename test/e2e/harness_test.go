// Package e2e runs the program as users do, against other people's tools and
// against real guests: what it says, its exit code, and what it leaves behind.
package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ovation-project/ovation/internal/testenv"
	"github.com/ovation-project/ovation/test/appliance"
)

// The exit codes that the program documents.
const (
	exitOK        = 0
	exitFailed    = 1
	exitUsage     = 2
	exitInvalid   = 3
	exitUntrusted = 4
	exitUnfit     = 5
)

// marker is in the environment of all that the tests start, so that whatever
// outlives its test is found. Its value is a folder that only one test has.
const marker = "OVATION_E2E"

// program is the path of the program under test; TestMain builds it.
var program string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ovation-e2e-")
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

// appliances gives the builder of the test appliance, or skips the test.
var appliances = sync.OnceValues(func() (*appliance.Builder, error) {
	return appliance.New(context.Background())
})

func build(t *testing.T, spec appliance.Spec) *appliance.Package {
	t.Helper()
	b, err := appliances()
	if errors.Is(err, appliance.ErrMissing) {
		testenv.Missing(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Build(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	thereAndBack(t, p)
	return p
}

// user is somebody who runs the program: a working folder, a folder for
// temporary files and a home, all empty.
type user struct {
	t          *testing.T
	root, work string
	path       string // PATH, "" for the tests' own
}

func newUser(t *testing.T) *user {
	t.Helper()
	u := &user{t: t, root: t.TempDir()}
	u.work = filepath.Join(u.root, "work")
	for _, dir := range []string{"work", "tmp", "home"} {
		if err := os.Mkdir(filepath.Join(u.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// Registered after TempDir's own removal, so it runs before that.
	t.Cleanup(u.nothingLeft)
	return u
}

// result is how one run of the program went.
type result struct {
	code           int
	stdout, stderr string
}

// command prepares a run; Start or Run it.
func (u *user) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = u.work
	path := u.path
	if path == "" {
		path = os.Getenv("PATH")
	}
	cmd.Env = []string{
		"PATH=" + path,
		"TMPDIR=" + filepath.Join(u.root, "tmp"),
		"HOME=" + filepath.Join(u.root, "home"),
		marker + "=" + u.root,
		"LC_ALL=C",
	}
	// The test's end asks the program to clean up, rather than killing it.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// ovation runs the program to its end.
func (u *user) ovation(args ...string) result {
	u.t.Helper()
	return u.finish(u.command(u.t.Context(), args...), args)
}

// finish runs a command of the program's to its end.
func (u *user) finish(cmd *exec.Cmd, args []string) result {
	u.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if cmd.ProcessState == nil {
		u.t.Fatalf("ovation %s: %v", strings.Join(args, " "), err)
	}
	r := result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
	if strings.Contains(r.stderr, "goroutine ") || strings.Contains(r.stderr, "panic:") {
		u.t.Errorf("ovation %s panicked:\n%s", strings.Join(args, " "), r.stderr)
	}
	return r
}

// succeed runs the program, which must succeed.
func (u *user) succeed(args ...string) result {
	u.t.Helper()
	r := u.ovation(args...)
	u.succeeded(r, args)
	return r
}

func (u *user) succeeded(r result, args []string) {
	u.t.Helper()
	if r.code != exitOK {
		u.t.Fatalf("ovation %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stderr, tail(r.stdout))
	}
}

// peak runs the program, which must succeed, and gives the most memory that it
// took, in bytes. It is started by time(1): what the test starts itself has the
// test's own memory for its peak, as until it becomes the program it is the test.
func (u *user) peak(args ...string) int64 {
	u.t.Helper()
	tool := testenv.NeedTool(u.t, "time")
	file := filepath.Join(u.t.TempDir(), "peak")
	cmd := u.command(u.t.Context(), args...)
	cmd.Path, cmd.Args = tool, append([]string{tool, "-q", "-f", "%M", "-o", file, program}, args...)
	u.succeeded(u.finish(cmd, args), args)
	kib, err := strconv.ParseInt(strings.TrimSpace(string(read(u.t, file))), 10, 64)
	if err != nil || kib <= 0 {
		u.t.Fatalf("time says %d: %v", kib, err)
	}
	return kib << 10
}

// fail runs the program, which must fail with that exit code and say all of
// these words on stderr.
func (u *user) fail(code int, says []string, args ...string) result {
	u.t.Helper()
	r := u.ovation(args...)
	line := "ovation " + strings.Join(args, " ")
	if r.code != code {
		u.t.Errorf("%s: exit code %d, want %d\n%s", line, r.code, code, r.stderr)
	}
	for _, word := range says {
		if !strings.Contains(strings.ToLower(r.stderr), strings.ToLower(word)) {
			u.t.Errorf("%s: stderr does not say %q:\n%s", line, word, r.stderr)
		}
	}
	return r
}

// nothingLeft checks that no process and no temporary file outlived the test.
func (u *user) nothingLeft() {
	u.t.Helper()
	if left := processesOf(u.root); len(left) > 0 {
		u.t.Errorf("processes are left behind: %v", left)
		for pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // the test has failed already
		}
	}
	if left := filesBelow(u.t, filepath.Join(u.root, "tmp")); len(left) > 0 {
		u.t.Errorf("left behind in the folder for temporary files: %q", left)
	}
}

// onlyLeft checks what the working folder holds.
func (u *user) onlyLeft(names ...string) {
	u.t.Helper()
	left := filesBelow(u.t, u.work)
	if strings.Join(left, "\n") != strings.Join(names, "\n") {
		u.t.Errorf("the working folder holds %q, want %q", left, names)
	}
}

func filesBelow(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if name, _ := filepath.Rel(dir, path); err == nil && name != "." {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return names
}

// processesOf gives the processes that the marker is in the environment of,
// with their command lines.
func processesOf(root string) map[int]string {
	found := map[int]string{}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil || !bytes.Contains(env, []byte(marker+"="+root+"\x00")) {
			continue
		}
		// A process that has ended and whose parent has not looked yet is
		// none any more.
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue
		}
		line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err == nil {
			found[pid] = strings.ReplaceAll(string(line), "\x00", " ")
		}
	}
	return found
}

// tail gives the last lines of a text.
func tail(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(lines[max(0, len(lines)-30):], "\n")
}

// write makes a file in the user's working folder and gives its path.
func (u *user) write(name string, content []byte) string {
	u.t.Helper()
	path := filepath.Join(u.work, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		u.t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
