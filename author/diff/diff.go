// Package diff compares two packages as a person would: what is in them, not
// how it is written.
package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/appliance/disks"
	"github.com/ovation-project/ovation/author/descriptor"
	"github.com/ovation-project/ovation/author/spec"
	"github.com/ovation-project/ovation/disk"
	"github.com/ovation-project/ovation/disk/compare"
	"github.com/ovation-project/ovation/internal/term"
	"github.com/ovation-project/ovation/ovf"
)

// Kind says what happened from the first package to the second.
type Kind string

// The kinds of change.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// Change is one difference.
type Change struct {
	Kind Kind `json:"kind"`
	// Path says of what, in the words of a specification:
	// machine.hardware.devices[4].slot.
	Path string `json:"path"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
}

// Options change what is compared. The zero value is good.
type Options struct {
	// All compares what says little as well: the Info texts of sections,
	// IDs of files and populated sizes.
	All bool
	// NoContent leaves out comparing what disks and files hold.
	NoContent bool
	// Disks is how disks are opened.
	Disks disks.Options
	// Workers is how many pieces of disks are compared at once.
	Workers int
	// Progress, where set, is called when a disk begins to be compared, and
	// gives what is told how far it is.
	Progress func(name string, total int64) func(done int64)
}

// Report is what differs.
type Report struct {
	Changes []Change `json:"changes"`
	// Unread are disks and files that could not be compared, with why.
	Unread []string `json:"unread,omitempty"`
}

// Equal says whether nothing differs.
func (r *Report) Equal() bool { return len(r.Changes) == 0 }

// Descriptors compares two descriptors.
func Descriptors(a, b *ovf.Document, opt Options) ([]Change, error) {
	x, err := plain(a, opt)
	if err != nil {
		return nil, fmt.Errorf("first package: %w", err)
	}
	y, err := plain(b, opt)
	if err != nil {
		return nil, fmt.Errorf("second package: %w", err)
	}
	w := &walker{opt: opt}
	w.value("", reflect.ValueOf(x).Elem(), reflect.ValueOf(y).Elem())
	return w.changes, nil
}

// plain gives a descriptor as a specification, quantities in base units.
func plain(doc *ovf.Document, opt Options) (*spec.Appliance, error) {
	s, _, err := descriptor.Read(doc, descriptor.ReadOptions{})
	if err != nil {
		return nil, err
	}
	fileNames := map[string]string{}
	for _, f := range doc.Envelope().References {
		fileNames[f.ID] = f.Href
	}
	for i := range s.Disks {
		d := &s.Disks[i]
		d.Capacity, d.Units = inBase(d.Capacity, d.Units)
		d.Source, d.Format = "", ""
		if !opt.All {
			d.Populated, d.FileID = nil, ""
		}
	}
	for i := range s.Files {
		s.Files[i].Source, s.Files[i].Stored = "", false
	}
	s.Walk(func(c *spec.Content, _ bool) {
		for i := range c.XML {
			// Sections that are not all keys may hold passwords as well.
			if strings.Contains(c.XML[i].Text, "assword") {
				c.XML[i].Text = secret + c.XML[i].Text
			}
		}
		for i := range c.Hardware {
			h := &c.Hardware[i]
			if h.System != nil {
				h.System.Bare = false
			}
			for j := range h.Devices {
				d := &h.Devices[j]
				d.Quantity, d.Units = inBase(d.Quantity, d.Units)
				if !opt.All {
					d.Element = ""
				}
			}
		}
		for i := range c.Products {
			for j := range c.Products[i].Properties {
				hide(&c.Products[i].Properties[j])
			}
		}
	})
	return s, nil
}

// inBase gives a number of bytes or hertz without its unit.
func inBase(quantity, units string) (string, string) {
	if quantity == "" || strings.HasPrefix(quantity, "$") {
		return quantity, units
	}
	if n, err := term.ParseSize(quantity); units == "" && err == nil { // as a specification has it
		return strconv.FormatInt(n, 10), ""
	}
	u, err := ovf.ParseUnit(units)
	if err != nil {
		return quantity, units
	}
	n, err := u.Quantity(quantity)
	if err != nil || u.Base == "hertz" {
		return quantity, units // of processors the unit is that of reservations
	}
	return strconv.FormatInt(n, 10), ""
}

// secret marks the value of a password that is not to be shown.
const secret = "\x00secret:"

func hide(p *spec.Property) {
	if !p.Password && !strings.HasPrefix(p.Type, "password") {
		return
	}
	if p.Default != nil {
		s := secret + *p.Default
		p.Default = &s
	}
	for i := range p.Values {
		p.Values[i].Value = secret + p.Values[i].Value
	}
}

type walker struct {
	opt     Options
	changes []Change
}

func (w *walker) add(kind Kind, path, before, after string) {
	shown := func(s string) string {
		if strings.Contains(s, secret) {
			return "(not shown)"
		}
		return s
	}
	w.changes = append(w.changes, Change{kind, path, shown(before), shown(after)})
}

// boring are fields that say little.
var boring = map[string]bool{"Info": true, "Infos": true, "Pos": true, "Namespaces": true}

func (w *walker) value(path string, a, b reflect.Value) {
	t := a.Type()
	switch {
	case t == reflect.TypeFor[spec.RawXML]():
		x, y := text(a), text(b)
		if x != y {
			w.one(path, x, y)
		}
	case t == reflect.TypeFor[spec.Text]():
		x, y := a.Interface().(spec.Text), b.Interface().(spec.Text)
		if x.Text != y.Text {
			w.one(path, x.Text, y.Text)
		}
	case t.Kind() == reflect.Pointer:
		switch {
		case a.IsNil() && b.IsNil():
		case a.IsNil():
			w.add(Added, path, "", text(b.Elem()))
		case b.IsNil():
			w.add(Removed, path, text(a.Elem()), "")
		default:
			w.value(path, a.Elem(), b.Elem())
		}
	case t.Kind() == reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			if boring[f.Name] && !(w.opt.All && f.Name != "Pos") {
				continue
			}
			key := f.Tag.Get("yaml")
			if path != "" {
				key = path + "." + key
			}
			w.value(key, a.Field(i), b.Field(i))
		}
	case t.Kind() == reflect.Slice:
		w.list(path, a, b)
	default:
		if x, y := fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface()); x != y {
			zero := reflect.Zero(t).Interface()
			if x == fmt.Sprint(zero) {
				x = ""
			}
			if y == fmt.Sprint(zero) {
				y = ""
			}
			w.one(path, x, y)
		}
	}
}

func (w *walker) one(path, a, b string) {
	switch {
	case a == "":
		w.add(Added, path, "", b)
	case b == "":
		w.add(Removed, path, a, "")
	default:
		w.add(Changed, path, a, b)
	}
}

// list compares lists whose members have a name by these, others by their
// place.
func (w *walker) list(path string, a, b reflect.Value) {
	if !named(a.Type().Elem()) {
		if a.Type().Elem().Kind() == reflect.String {
			if x, y := fmt.Sprint(a.Interface()), fmt.Sprint(b.Interface()); x != y {
				w.one(path, words(a), words(b))
			}
			return
		}
		for i := range max(a.Len(), b.Len()) {
			at := fmt.Sprintf("%s[%d]", path, i)
			switch {
			case i >= a.Len():
				w.add(Added, at, "", text(b.Index(i)))
			case i >= b.Len():
				w.add(Removed, at, text(a.Index(i)), "")
			default:
				w.value(at, a.Index(i), b.Index(i))
			}
		}
		return
	}
	other := map[string]reflect.Value{}
	names := keysOf(b)
	for i, k := range names {
		other[k] = b.Index(i)
	}
	mine := map[string]bool{}
	for i, k := range keysOf(a) {
		mine[k] = true
		at := fmt.Sprintf("%s[%s]", path, k)
		if y, ok := other[k]; ok {
			w.value(at, a.Index(i), y)
		} else {
			w.add(Removed, at, text(a.Index(i)), "")
		}
	}
	for i, k := range names {
		if !mine[k] {
			w.add(Added, fmt.Sprintf("%s[%s]", path, k), "", text(b.Index(i)))
		}
	}
}

// keyFields are those by which members of lists are known, best first.
var keyFields = []string{"ID", "Key", "Name", "Prefix", "Language", "Option", "Group", "File"}

func named(t reflect.Type) bool {
	if t.Kind() != reflect.Struct || t == reflect.TypeFor[spec.Hardware]() {
		return false
	}
	if t == reflect.TypeFor[spec.Member]() {
		return true
	}
	return slices.ContainsFunc(keyFields, func(f string) bool {
		s, ok := t.FieldByName(f)
		return ok && s.Type.Kind() == reflect.String
	})
}

// keysOf names the members of a list, so that no two have one name.
func keysOf(list reflect.Value) []string {
	seen := map[string]int{}
	var all []string
	for i := range list.Len() {
		v := list.Index(i)
		if m, ok := v.Interface().(spec.Member); ok {
			inner := m.Machine
			if inner == nil {
				inner = m.Collection
			}
			if inner != nil {
				v = reflect.ValueOf(*inner)
			}
		}
		k := ""
		for _, f := range keyFields {
			if s := v.FieldByName(f); k == "" && s.IsValid() && s.Kind() == reflect.String {
				k = s.String()
			}
		}
		if d, ok := list.Index(i).Interface().(spec.Device); ok {
			for _, more := range []string{d.Bound, strings.Join(d.Options, "+")} {
				if more != "" {
					k += " " + more
				}
			}
		}
		if seen[k]++; seen[k] > 1 {
			k += "#" + strconv.Itoa(seen[k])
		}
		all = append(all, k)
	}
	return all
}

func words(v reflect.Value) string {
	var all []string
	for i := range v.Len() {
		all = append(all, v.Index(i).String())
	}
	return strings.Join(all, " ")
}

// text says in a line what a value is.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case spec.RawXML:
		return strings.Join(strings.Fields(x.Text), " ")
	case spec.Text:
		return x.Text
	}
	switch v.Kind() {
	case reflect.Struct:
		var parts []string
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if boring[f.Name] || f.Tag.Get("yaml") == "" {
				continue
			}
			if s := text(v.Field(i)); s != "" {
				parts = append(parts, f.Tag.Get("yaml")+" "+s)
			}
		}
		return strings.Join(parts, ", ")
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return text(v.Elem())
	case reflect.Slice:
		var parts []string
		for i := range v.Len() {
			if s := text(v.Index(i)); s != "" {
				parts = append(parts, s)
			}
		}
		return strings.Join(parts, "; ")
	}
	if v.IsZero() {
		return ""
	}
	return fmt.Sprint(v.Interface())
}

// Packages compares two packages: their descriptors, and what their disks and
// files hold.
func Packages(ctx context.Context, a, b *appliance.Package, opt Options) (*Report, error) {
	changes, err := Descriptors(a.Document(), b.Document(), opt)
	if err != nil {
		return nil, err
	}
	r := &Report{Changes: changes}
	if opt.NoContent {
		return r, nil
	}
	inDisk := map[string]bool{}
	disksB := map[string]*ovf.Disk{}
	for _, d := range b.Document().Envelope().Disks {
		disksB[d.ID] = d
	}
	for _, d := range a.Document().Envelope().Disks {
		inDisk[d.FileRef] = true
		if y := disksB[d.ID]; y != nil && d.FileRef != "" && y.FileRef != "" {
			if err := r.disk(ctx, a, b, d.ID, opt); err != nil {
				return nil, err
			}
		}
	}
	filesB := map[string]*ovf.File{}
	for _, f := range b.Document().Envelope().References {
		filesB[f.ID] = f
	}
	seen := map[string]*ovf.File{}
	for _, f := range a.Document().Envelope().References {
		seen[f.ID] = f
	}
	for _, id := range slices.Sorted(maps.Keys(seen)) {
		if y := filesB[id]; y != nil && !inDisk[id] {
			if err := r.file(ctx, a, b, seen[id], y); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

// disk compares what two disks hold.
func (r *Report) disk(ctx context.Context, a, b *appliance.Package, id string, opt Options) error {
	x, err := disks.Open(ctx, a, id, opt.Disks)
	if err != nil {
		return r.unread(ctx, "disk "+id, err)
	}
	defer x.Close()
	y, err := disks.Open(ctx, b, id, opt.Disks)
	if err != nil {
		return r.unread(ctx, "disk "+id, err)
	}
	defer y.Close()
	c := compare.Options{Workers: opt.Workers}
	if opt.Progress != nil {
		c.Progress = opt.Progress(id, max(x.Size(), y.Size()))
	}
	res, err := compare.Run(ctx, x, y, c)
	if err != nil {
		return r.unread(ctx, "disk "+id, err)
	}
	if !res.Equal {
		r.Changes = append(r.Changes, Change{Changed, "disks[" + id + "] content", "", fmt.Sprintf("different from byte %d on (sector %d)", res.Offset, res.Offset/disk.SectorSize)})
	}
	return nil
}

// unread notes what cannot be compared; where that is because the work was
// cancelled, or a package is not intact, it is an error.
func (r *Report) unread(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil || errors.Is(err, appliance.ErrAltered) || errors.Is(err, disk.ErrCorrupt) {
		return fmt.Errorf("%s: %w", what, err)
	}
	r.Unread = append(r.Unread, fmt.Sprintf("%s: %v", what, err))
	return nil
}

func (r *Report) file(ctx context.Context, a, b *appliance.Package, x, y *ovf.File) error {
	if strings.Contains(x.Href, "://") || strings.Contains(y.Href, "://") {
		return nil
	}
	open := func(p *appliance.Package, f *ovf.File) (io.Reader, io.Closer, error) {
		raw, err := p.OpenReader(ctx, f.Href)
		if err != nil {
			return nil, nil, err
		}
		content, _, err := appliance.Expand(f, raw)
		return content, raw, err
	}
	m, closeM, err := open(a, x)
	if err != nil {
		return r.unread(ctx, "file "+x.ID, err)
	}
	defer closeM.Close()
	n, closeN, err := open(b, y)
	if err != nil {
		return r.unread(ctx, "file "+x.ID, err)
	}
	defer closeN.Close()
	at, err := firstDifference(ctx, m, n)
	if err != nil {
		return r.unread(ctx, "file "+x.ID, err)
	}
	if at >= 0 {
		r.Changes = append(r.Changes, Change{Changed, "files[" + x.ID + "] content", "", fmt.Sprintf("different from byte %d on", at)})
	}
	return nil
}

// firstDifference gives the first byte in which two streams differ, -1 for
// none.
func firstDifference(ctx context.Context, a, b io.Reader) (int64, error) {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); ; {
		if err := context.Cause(ctx); err != nil {
			return 0, err
		}
		n, errN := io.ReadFull(a, x)
		m, errM := io.ReadFull(b, y)
		for _, err := range []error{errN, errM} {
			if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				return 0, err
			}
		}
		if !bytes.Equal(x[:n], y[:m]) {
			i := 0
			for i < min(n, m) && x[i] == y[i] {
				i++
			}
			return off + int64(i), nil
		}
		if n < len(x) {
			return -1, nil
		}
		off += int64(n)
	}
}
