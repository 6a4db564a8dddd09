package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ovation-project/ovation/appliance"
	"github.com/ovation-project/ovation/author/pack"
	"github.com/ovation-project/ovation/hypervisor/vsphere"
)

// openToChange opens a package that is changed where it lies, unless output names
// another. Of a folder it finishes first what a program that was killed had begun.
func (a *app) openToChange(ctx context.Context, locator, output string) (*appliance.Package, error) {
	if output == "" && (onWeb(locator) || vsphere.IsURI(locator)) {
		return nil, usagef("a package that lies elsewhere is not changed in place: give -o")
	}
	if dir := folderOf(locator); output == "" && dir != "" {
		done, err := pack.Recover(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if done {
			a.note("an earlier change of %s, which was interrupted, is finished", dir)
		}
	}
	return a.openPackage(ctx, locator)
}

// folderOf is the folder that a package of this machine lies in as files, "" for
// an archive.
func folderOf(locator string) string {
	if st, err := os.Stat(locator); err == nil && st.IsDir() {
		return locator
	}
	if strings.EqualFold(filepath.Ext(locator), ".ovf") {
		return filepath.Dir(locator)
	}
	return ""
}

// writeChanged writes a package that was changed: where f names nothing else, in
// the place of the old one. gone are stored files of a folder that are not of it
// any more. name is that of a new archive.
func (a *app) writeChanged(ctx context.Context, p *appliance.Package, pkg *pack.Package, gone []string, f *packageFlags, name string) error {
	if f.output == "" {
		f.force, f.output = true, p.Locator()
		if p.Kind() == appliance.Folder {
			f.output = folderOf(p.Locator())
			f.remove = unwritten(pkg, gone)
		}
	}
	out, err := a.packageOutput(f, name)
	if err != nil {
		return err
	}
	return a.writePackage(ctx, pkg, f, out)
}

// unwritten leaves out of names those that the package has.
func unwritten(pkg *pack.Package, names []string) (left []string) {
	has := map[string]bool{pkg.Name + ".ovf": true, pkg.ChunkDigests: true}
	has[pkg.Name+".mf"] = pkg.Hash != 0 || pkg.Manifest != nil
	has[pkg.Name+".cert"] = pkg.Signer != nil || pkg.Certificate != nil
	for _, part := range pkg.Parts {
		has[part.Name] = true
	}
	for _, name := range names {
		if !has[name] {
			left = append(left, name)
		}
	}
	return left
}
