package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ovation-project/ovation/deploy/plan"
	"github.com/ovation-project/ovation/internal/filelock"
	"github.com/ovation-project/ovation/internal/statedir"
)

// ErrBusy says that another program is at work on the deployment.
var ErrBusy = errors.New("another program is at work on it")

const (
	fileName = "journal"
	lockName = "lock"
)

// Store is the folder that holds the folders of deployments, by their IDs.
type Store struct{ Dir string }

// Default is the user's own: ovation/deployments in $XDG_STATE_HOME, or in
// ~/.local/state.
func Default() (Store, error) {
	dir, err := statedir.Path("deployments")
	return Store{Dir: dir}, err
}

// Folder is a deployment's, whether it is there or not.
func (s Store) Folder(id string) string { return filepath.Join(s.Dir, id) }

// lock keeps other programs from making and removing journals meanwhile.
func (s Store) lock() (*os.File, error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := filelock.Lock(f, filelock.Exclusive); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), f.Close())
	}
	return f, nil
}

// Journal is one that is open, and locked until it is closed or the program
// ends. Its methods may be called by several at once.
type Journal struct {
	dir string

	mu    sync.Mutex
	file  *os.File
	state *State
	// broken is set when an entry could not be written: what is in the file is
	// not known any more.
	broken error
}

// Begin makes a deployment's journal, with the plan in it. It is ErrBusy where
// another deployment of that name is going on at that target, or was not
// finished: Claim gives those.
func (s Store) Begin(p *plan.Plan) (_ *Journal, err error) {
	if err := p.Check(); err != nil {
		return nil, err
	}
	all, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer all.Close()
	s.sweep()
	others, err := s.unfinished(p.Target, p.Name)
	if err != nil {
		return nil, err
	}
	if len(others) > 0 {
		return nil, fmt.Errorf("deployment %s to %s: %w", p.Name, p.Target, ErrBusy)
	}
	dir := s.Folder(p.ID)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	j := &Journal{dir: dir, state: &State{}}
	defer func() {
		if err != nil {
			if j.file != nil {
				err = errors.Join(err, j.file.Close())
			}
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	j.file, err = os.OpenFile(filepath.Join(dir, fileName), os.O_RDWR|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600) // #nosec G304
	if err != nil {
		return nil, err
	}
	if err := filelock.Try(j.file, filelock.Exclusive); err != nil {
		return nil, err
	}
	if err := j.write(Entry{Kind: Begin, Plan: p}); err != nil {
		return nil, err
	}
	return j, errors.Join(syncDir(dir), syncDir(s.Dir))
}

func syncDir(path string) error {
	d, err := os.Open(path) // #nosec G304
	if err != nil {
		return err
	}
	defer d.Close()
	// Some file systems have no such thing for a folder.
	if err := d.Sync(); err != nil && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// Open opens a deployment's journal. It is ErrBusy where another program has it,
// and fs.ErrNotExist where there is none.
func (s Store) Open(id string) (j *Journal, err error) {
	err = s.locked(id, func() error {
		j, err = s.open(id)
		return err
	})
	return j, err
}

// Look says how far a deployment has come that no program is at work on. It is
// ErrBusy where one is, and fs.ErrNotExist where there is none. Who looks keeps
// nobody from the work.
func (s Store) Look(id string) (state *State, err error) {
	err = s.locked(id, func() error {
		j, err := s.open(id)
		if err != nil {
			return err
		}
		state = j.state
		return j.Close()
	})
	return state, err
}

// locked does something with a deployment's journal that is there while no other
// program looks for journals.
func (s Store) locked(id string, do func() error) error {
	if !plan.ValidID(id) {
		return fmt.Errorf("%q is not the ID of a deployment: %w", id, fs.ErrNotExist)
	}
	if _, err := os.Stat(s.Folder(id)); err != nil {
		return err
	}
	all, err := s.lock()
	if err != nil {
		return err
	}
	defer all.Close()
	return do()
}

// open opens a journal for a caller that holds the lock.
func (s Store) open(id string) (_ *Journal, err error) {
	j := &Journal{dir: s.Folder(id)}
	j.file, err = os.OpenFile(filepath.Join(j.dir, fileName), os.O_RDWR|os.O_APPEND, 0) // #nosec G304
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, j.file.Close())
		}
	}()
	if err := filelock.Try(j.file, filelock.Exclusive); err != nil {
		if errors.Is(err, filelock.ErrHeld) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("deployment %s: %w", id, err)
	}
	state, whole, err := load(j.file)
	if err != nil {
		return nil, err
	}
	j.state = state
	// What was torn is taken away before anything is added.
	if err := j.file.Truncate(whole); err != nil {
		return nil, err
	}
	return j, nil
}

func load(f *os.File) (*State, int64, error) {
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, err
	}
	s, whole, err := Read(data)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, whole, nil
}

// List reads the journals of all deployments that were begun, the oldest first,
// by their IDs' folders. Those that can't be read are left out, and their errors
// joined to one.
func (s Store) List() ([]*State, error) {
	entries, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var states []*State
	var errs []error
	for _, e := range entries {
		if !e.IsDir() || !plan.ValidID(e.Name()) {
			continue
		}
		f, err := os.Open(filepath.Join(s.Dir, e.Name(), fileName))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		state, _, err := load(f)
		if err = errors.Join(err, f.Close()); err != nil {
			errs = append(errs, err)
		} else if state.Plan != nil {
			states = append(states, state)
		}
	}
	slices.SortStableFunc(states, func(a, b *State) int { return a.Plan.Made.Compare(b.Plan.Made) })
	return states, errors.Join(errs...)
}

func (s Store) unfinished(target, name string) ([]*State, error) {
	all, err := s.List()
	return slices.DeleteFunc(all, func(x *State) bool {
		return !x.Unfinished() || x.Plan.Target != target || !strings.EqualFold(x.Plan.Name, name)
	}), err
}

// Claim opens the journals of deployments of a name at a target that were begun
// and not finished: a program was killed, or could not undo what it had made. It
// is ErrBusy where one of them is still going on.
func (s Store) Claim(target, name string) (claimed []*Journal, err error) {
	if _, err := os.Stat(s.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer all.Close()
	states, err := s.unfinished(target, name)
	for _, x := range states {
		j, openErr := s.open(x.Plan.ID)
		if openErr != nil {
			err = errors.Join(err, openErr)
			continue
		}
		if !j.state.Unfinished() {
			_ = j.Close() // finished meanwhile
			continue
		}
		claimed = append(claimed, j)
	}
	if err != nil {
		for _, j := range claimed {
			_ = j.Close()
		}
		return nil, err
	}
	return claimed, nil
}

// sweep removes the folders of deployments of which nothing is left: the program
// was killed before it made anything, or after it took everything back. The
// caller holds the lock.
func (s Store) sweep() {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !e.IsDir() || !plan.ValidID(e.Name()) {
			continue
		}
		j, err := s.open(e.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist):
			_ = os.Remove(s.Folder(e.Name())) // only where it is empty
		case err == nil && (j.state.Plan == nil || j.state.Removed && !j.state.Complete):
			_ = j.Remove()
		case err == nil:
			_ = j.Close()
		}
	}
}

// Folder is the deployment's.
func (j *Journal) Folder() string { return j.dir }

// Plan is the deployment's, as far as it is settled.
func (j *Journal) Plan() *plan.Plan {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.state.Plan
}

// State is how far it has come.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := *j.state
	s.Begun, s.Done, s.Contents = slices.Clone(s.Begun), slices.Clone(s.Done), maps.Clone(s.Contents)
	return s
}

// Add writes an entry, and returns when it is on the disk. Time is set by it.
func (j *Journal) Add(e Entry) error {
	if e.Kind == Begin {
		return errors.New("journal: Begin comes first")
	}
	return j.write(e)
}

func (j *Journal) write(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.broken != nil {
		return j.broken
	}
	e.Time = time.Now().UTC()
	line, err := e.line()
	if err != nil {
		return err
	}
	if err := j.state.add(e); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err = j.file.Write(line); err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.broken = fmt.Errorf("journal: %w", err)
		return j.broken
	}
	return nil
}

// Close ends the lock.
func (j *Journal) Close() error { return j.file.Close() }

// Remove removes the deployment's folder with all that is in it, and closes the
// journal. It is for deployments of which nothing is left.
func (j *Journal) Remove() error {
	// The journal goes last, so that what is killed now is swept later.
	return errors.Join(removeAll(j.dir), j.Close())
}

func removeAll(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != fileName {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}
