package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/ovation-project/ovation/internal/filelock"
)

// No file system gives several names at once. Where a set replaces files that
// belong together, a file beside them first says what is to become of which, when
// all of it is there under hidden names; whoever comes after a program that was
// killed in the middle carries on from that.

// recordPrefix begins the names of these files.
const recordPrefix = ".ovation-replace."

// maxRecord bounds them, in bytes.
const maxRecord = 16 << 20

// record is what such a file says.
type record struct {
	Replace []replacement `json:"replace"`
	Remove  []string      `json:"remove,omitempty"`
}

// replacement is one file that gets its name. Old and New tell the file that has
// the name before from the one that has it then.
type replacement struct {
	Temp string `json:"temp"`
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// identity tells one version of a file from another, "" where there is none.
func identity(path string) (string, error) {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%v %d %d", st.Mode().Type(), st.Size(), st.ModTime().UnixNano()), nil
}

// Remove has a file of the folder, or of one below it, go when the others get
// their names. It may be gone already.
func (s *Set) Remove(name string) error {
	if !filepath.IsLocal(name) || name == "." {
		return fmt.Errorf("%q is no name in a folder: %w", name, fs.ErrInvalid)
	}
	s.removed = append(s.removed, name)
	return nil
}

// Forget leaves a file out of the set.
func (s *Set) Forget(f *File) error {
	for i := range s.files {
		if s.files[i] == f {
			s.files = append(s.files[:i:i], s.files[i+1:]...)
			return f.drop()
		}
	}
	return nil
}

// together says whether what the set does to the folder has to be done as a
// whole: something that is there goes, and something else happens as well.
func (s *Set) together() bool {
	if len(s.removed) > 0 {
		return true
	}
	if !s.opt.Replace || len(s.files) < 2 {
		return false
	}
	for _, f := range s.files {
		if _, err := os.Lstat(f.path); err == nil {
			return true
		}
	}
	return false
}

// replaceAll gives all files their names, as a whole.
func (s *Set) replaceAll() error {
	r := record{Remove: s.removed}
	for i := len(s.files) - 1; i >= 0; i-- {
		f := s.files[i]
		if err := f.hide(); err != nil {
			return err
		}
		is := replacement{Temp: filepath.Base(f.temp), Name: filepath.Base(f.path)}
		var err error
		if is.Old, err = identity(f.path); err == nil {
			is.New, err = identity(f.temp)
		}
		if err != nil {
			return err
		}
		r.Replace = append(r.Replace, is)
	}
	s.reach("hidden")
	name, err := s.writeRecord(r)
	if err != nil {
		return err
	}
	s.reach("recorded")
	if err := r.carryOut(s.dir, s.reach); err != nil {
		// Nobody was killed: whoever called is told, and does it again.
		return errors.Join(err, os.Remove(name))
	}
	for _, f := range s.files {
		f.temp = ""
	}
	if err := s.syncDir(); err != nil {
		return err
	}
	s.reach("named")
	return os.Remove(name)
}

func (s *Set) syncDir() error {
	if s.opt.NoSync {
		return nil
	}
	return syncDir(s.dir)
}

// reach is for tests.
func (s *Set) reach(step string) {
	if s.reached != nil {
		s.reached(step)
	}
}

// writeRecord puts the record beside the files, whole and for good.
func (s *Set) writeRecord(r record) (name string, err error) {
	data, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	name = filepath.Join(s.dir, recordPrefix+randomText())
	one := New(s.ctx, s.dir, Options{NoSync: s.opt.NoSync})
	defer one.Abort()
	f, err := one.CreateFile(filepath.Base(name))
	if err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return name, one.Commit(s.ctx)
}

// carryOut does what the record says and was not done yet.
func (r record) carryOut(dir string, reach func(string)) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, is := range r.Replace {
		if err := root.Rename(is.Temp, is.Name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		reach("renamed " + is.Name)
	}
	for _, name := range r.Remove {
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		reach("removed " + name)
	}
	return nil
}

var hiddenPattern = regexp.MustCompile(`^\.(.+)\.[A-Z2-7]{8}\.partial$`)

// check refuses a record that no Set has written.
func (r record) check() error {
	for _, is := range r.Replace {
		m := hiddenPattern.FindStringSubmatch(is.Temp)
		if m == nil || m[1] != is.Name || filepath.Base(is.Name) != is.Name || !filepath.IsLocal(is.Name) {
			return fmt.Errorf("%q for %q: %w", is.Temp, is.Name, fs.ErrInvalid)
		}
	}
	for _, name := range r.Remove {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%q: %w", name, fs.ErrInvalid)
		}
	}
	return nil
}

// stale says whether somebody else has changed the files since: then nothing of
// the record fits them any more.
func (r record) stale(dir string) (bool, error) {
	for _, is := range r.Replace {
		now, err := identity(filepath.Join(dir, is.Name))
		if err != nil {
			return false, err
		}
		there, err := identity(filepath.Join(dir, is.Temp))
		if err != nil {
			return false, err
		}
		if want := map[bool]string{true: is.Old, false: is.New}[there != ""]; now != want || there != "" && there != is.New {
			return true, nil
		}
	}
	return false, nil
}

// Interrupted says whether a program was killed while it replaced files in a
// folder, or does so now: some may be new, and some as they were.
func Interrupted(dir string) bool {
	names, err := filepath.Glob(filepath.Join(globQuote(dir), recordPrefix+"*"))
	return err == nil && len(names) > 0
}

var globSpecial = regexp.MustCompile(`[*?\[\\]`)

func globQuote(dir string) string { return globSpecial.ReplaceAllString(dir, `\$0`) }

// Recover finishes what a program that was killed had begun to do to the files of
// a folder, and removes what it left. done says that something was finished. Where
// somebody has changed the files since, they stay as they are.
func Recover(dir string) (done bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), recordPrefix) || !e.Type().IsRegular() {
			continue
		}
		finished, err := recoverOne(dir, filepath.Join(dir, e.Name()))
		if err != nil {
			return done, fmt.Errorf("finish what was interrupted in %s: %w", dir, err)
		}
		done = done || finished
	}
	for _, e := range entries {
		if e.Type().IsRegular() && hiddenPattern.MatchString(e.Name()) {
			sweep(filepath.Join(dir, e.Name()))
		}
	}
	return done, nil
}

func recoverOne(dir, path string) (bool, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil // another has just finished it
	}
	if err != nil {
		return false, err
	}
	if st.Size() > maxRecord {
		return false, fmt.Errorf("%s: it has %d bytes, over the limit of %d", path, st.Size(), maxRecord)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	if err := r.check(); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	old, err := r.stale(dir)
	if err != nil {
		return false, err
	}
	if !old {
		if err := r.carryOut(dir, func(string) {}); err != nil {
			return false, err
		}
		if err := syncDir(dir); err != nil {
			return false, err
		}
	}
	return !old, os.Remove(path)
}

// sweep removes a file with a hidden name that nobody writes to any more.
func sweep(path string) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if filelock.Try(f, filelock.Exclusive) == nil {
		_ = os.Remove(path)
	}
}
