package fit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/encryption"
	"github.com/ovation-project/ovation/appliance/trust"
	"github.com/ovation-project/ovation/appliance/verdict"
	"github.com/ovation-project/ovation/deploy/bootprobe"
	"github.com/ovation-project/ovation/deploy/stage"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/hypervisor"
	"github.com/ovation-project/ovation/ovf"
)

// ExamineOptions say how a package is looked at.
type ExamineOptions struct {
	// Policy and Store say whom to believe.
	Policy verdict.Policy
	Store  *trust.Store
	// Verify reads every file and compares it with the manifest; Progress is
	// then told how many bytes were read.
	Verify   bool
	Progress func(n int64)
	// Report, where set, is what proving a package found that has come.
	Report *appliance.Report
}

// Looker looks at the content of a package that is not there to be read.
type Looker interface {
	// LookDisk says what is seen of a disk that has a file, LookFile whether
	// there is something against a file that goes into a drive as it is.
	LookDisk(ctx context.Context, d *ovf.ResolvedDisk) (stage.Seen, error)
	LookFile(ctx context.Context, f *ovf.File) error
}

// Subject is a package that is to be judged: what of it is the same for every
// target is found out once. Its methods are safe for concurrent use.
type Subject struct {
	pkg     *appliance.Package
	files   disk.Files
	looker  Looker // nil where the files are looked at
	trust   *verdict.Verdict
	warning string
	reasons []Reason

	mu   sync.Mutex
	seen map[string]look // disks by ID, files by href behind a slash
}

// look is what was seen of a disk or a file.
type look struct {
	stage.Seen
	err error
}

// Examine looks at what can be known of a package without a target: whether it
// is trusted and intact. What speaks against it is a reason in every judgement;
// an error means that it could not be read. Of an archive that is coming and
// whose manifest did not come first nothing is known of either.
func Examine(ctx context.Context, pkg *appliance.Package, opt ExamineOptions) (*Subject, error) {
	s := &Subject{pkg: pkg, seen: map[string]look{}}
	if pkg.Coming() && pkg.Manifest() == nil {
		s.trust = &verdict.Verdict{}
		return s, nil
	}
	s.trust = verdict.Before(verdict.EvidenceOf(pkg), opt.Store, time.Now())
	if opt.Report != nil {
		s.trust = verdict.Of(opt.Report, opt.Store, time.Now())
	} else if opt.Verify {
		report, err := pkg.Verify(ctx, appliance.VerifyOptions{Progress: opt.Progress})
		if err != nil {
			return nil, err
		}
		s.trust = verdict.Of(report, opt.Store, time.Now())
	} else if err := pkg.Provable(ctx); ofPackage(err) {
		s.refuse("files", fmt.Errorf("%s: %w", pkg.Locator(), err))
	} else if err != nil {
		return nil, err
	}
	warning, err := opt.Policy.Decide(s.trust)
	if err != nil {
		s.refuse("trust", fmt.Errorf("%s: %w", pkg.Locator(), err))
	}
	s.warning = warning
	return s, nil
}

// refuse adds a reason that a library's error is.
func (s *Subject) refuse(subject string, cause error) {
	area := Integrity
	if errors.Is(cause, verdict.ErrUntrusted) {
		area = Security
	}
	s.reasons = append(s.reasons, Reason{Area: area, Reason: hypervisor.Reason{Subject: subject, Text: cause.Error()}, cause: cause})
}

// ReadFrom has the package's files looked at where they are brought to, and not
// as they lie. It is called before anything is judged.
func (s *Subject) ReadFrom(files disk.Files) { s.files = files }

// LookBy has somebody else look at the package's content. It is called before
// anything is judged.
func (s *Subject) LookBy(l Looker) { s.looker = l }

// Package is the package.
func (s *Subject) Package() *appliance.Package { return s.pkg }

// Trust is the verdict on the package's signer and integrity, as far as it was
// read.
func (s *Subject) Trust() *verdict.Verdict { return s.trust }

// Warning is what the trust policy warns of, "" for nothing.
func (s *Subject) Warning() string { return s.warning }

// Refused is the error for a package that no target gets, because it is not
// trusted or not intact; nil where there is no such reason.
func (s *Subject) Refused() error {
	if len(s.reasons) == 0 {
		return nil
	}
	return &Error{Target: "anything", Reasons: s.reasons}
}

// disk looks at a disk, once.
func (s *Subject) disk(ctx context.Context, d *ovf.ResolvedDisk) look {
	return s.once(d.ID, func() (stage.Seen, error) {
		if s.looker != nil {
			return s.looker.LookDisk(ctx, d)
		}
		return stage.Look(ctx, s.pkg, s.files, d)
	})
}

// file looks at a file that goes into a drive, once.
func (s *Subject) file(ctx context.Context, f *ovf.File) look {
	return s.once("/"+f.Href, func() (stage.Seen, error) {
		if s.looker != nil {
			return stage.Seen{Size: -1}, s.looker.LookFile(ctx, f)
		}
		return stage.Seen{Size: -1}, stage.LookFile(ctx, s.pkg, s.files, f)
	})
}

func (s *Subject) once(key string, see func() (stage.Seen, error)) look {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.seen[key]
	if !ok {
		l.Seen, l.err = see()
		s.seen[key] = l
	}
	return l
}

// probe is deploy.Options.Probe. A disk that can't be looked at is a reason of
// its own, which content finds.
func (s *Subject) probe(ctx context.Context) func(*ovf.ResolvedDisk) (bootprobe.Result, error) {
	return func(d *ovf.ResolvedDisk) (bootprobe.Result, error) {
		l := s.disk(ctx, d)
		if l.err != nil {
			if ofPackage(l.err) {
				return bootprobe.Result{Reason: "its disk can't be looked at"}, nil
			}
			return bootprobe.Result{}, l.err
		}
		return l.Boot, nil
	}
}

// ofPackage says whether an error is one of the package's own, which reading it
// again would give again.
func ofPackage(err error) bool {
	for _, is := range []error{appliance.ErrAltered, appliance.ErrIncomplete, appliance.ErrInvalid,
		disk.ErrCorrupt, disk.ErrFormat, disk.ErrUnsupported, disk.ErrOutside, encryption.ErrNoKey} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// content sees that what goes into the machines' drives is there and can be
// read, and gives the reasons where not. The error is one of reading.
func (s *Subject) content(ctx context.Context, j *Judgement) error {
	said := map[string]bool{}
	for _, m := range j.Machines {
		for _, id := range m.DriveIDs() {
			subject, l := "", look{}
			switch d, f := m.Disks[id], m.Files[id]; {
			case f != nil:
				subject, l = "file "+f.Href, s.file(ctx, f)
			case d.File != nil:
				subject, l = "disk "+d.ID, s.disk(ctx, d)
			default:
				continue // made empty
			}
			switch {
			case l.err == nil || said[subject]:
				continue
			case !ofPackage(l.err):
				return fmt.Errorf("%s: %w", subject, l.err)
			case errors.Is(l.err, encryption.ErrNoKey):
				continue // the section's own reason is there
			}
			said[subject] = true
			r := Reason{Area: Integrity, Reason: hypervisor.Reason{Subject: subject, Text: l.err.Error()}, cause: l.err}
			if errors.Is(l.err, disk.ErrFormat) || errors.Is(l.err, disk.ErrUnsupported) {
				r.Area, r.cause = Storage, nil
			}
			j.Reasons = append(j.Reasons, r)
		}
	}
	return nil
}
