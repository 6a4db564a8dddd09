package main

import (
	"bufio"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ovation-project/ovation/disk"
)

// diskRun is a line of disk map.
type diskRun struct {
	Start  int64  `json:"start"`
	Length int64  `json:"length"`
	Kind   string `json:"kind"`
	// Units is how many compressed units the run is of, Codec how they are
	// compressed, Stored how many bytes they take, where that was looked at.
	Units  int64  `json:"units,omitempty"`
	Codec  string `json:"codec,omitempty"`
	Stored int64  `json:"stored,omitempty"`
	// Offset is where in the file the run begins, for data that lies there
	// as it is, and for a single compressed unit.
	Offset *int64 `json:"offset,omitempty"`
}

func newDiskMapCommand(a *app) *cobra.Command {
	var format string
	var units bool
	c := &cobra.Command{
		Use:   "map DISK",
		Short: "List what of a disk is stored, and how",
		Long: `List the runs of a disk: hole (not stored), zero (recorded as zeroes), data and
compressed. With --json the result is an array of objects; offsets and lengths
are in bytes. Of a disk on a server only the tables are read: what compressed
blocks take is told with --units.`,
		Example: `  ovation disk map disk.qcow2
  ovation disk map --json --units appliance.ova#vmdisk1`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			d, err := a.openImage(c.Context(), args[0], format, "")
			if err != nil {
				return err
			}
			defer d.Close()
			// A map can have many millions of lines: they are written as
			// they are found.
			w := &mapWriter{w: bufio.NewWriterSize(a.out, 64<<10), json: a.json}
			m := merger{units: units, unit: d.info().Unit, emit: w.write}
			w.begin()
			run := d.run
			if units {
				run = d.Extent
			} else if d.far() && d.info().Codec != disk.NoCodec {
				a.note("%s: what compressed blocks take is told with --units, which looks at each of them", d.name)
			}
			if err := walk(c.Context(), d.Size(), run, m.add); err != nil {
				return fmt.Errorf("%s: %w", d.name, err)
			}
			if err := m.flush(); err != nil {
				return err
			}
			return w.end()
		},
	}
	formatFlag(c, &format, "format", "the format, where the file does not show it")
	c.Flags().BoolVar(&units, "units", false, "list each compressed unit by itself")
	return c
}

// merger makes one run of neighbouring extents.
type merger struct {
	units bool
	unit  int64 // of the image, in bytes
	emit  func(diskRun) error
	run   diskRun
	have  bool
	next  int64 // where in the file data goes on
	file  disk.File
}

func (m *merger) add(e disk.Extent) error {
	switch {
	case !m.have || m.run.Kind != e.Kind.String():
	case e.Kind == disk.Compressed && !m.units && m.run.Codec == e.Codec.String():
		m.run.Length += e.Length
		m.run.Stored += e.FileLength
		m.run.Units += m.count(e)
		m.run.Offset = nil
		return nil
	case e.Kind == disk.Hole, e.Kind == disk.Zero, e.Kind == disk.Data && e.File == m.file && (e.File == nil || e.FileOffset == m.next):
		m.run.Length += e.Length
		m.next += e.Length
		return nil
	}
	if err := m.flush(); err != nil {
		return err
	}
	m.run, m.have = diskRun{Start: e.Offset, Length: e.Length, Kind: e.Kind.String()}, true
	m.file, m.next = e.File, e.FileOffset+e.Length
	if e.File != nil {
		offset := e.FileOffset
		m.run.Offset = &offset
	}
	if e.Kind == disk.Compressed {
		m.run.Codec, m.run.Stored, m.run.Units = e.Codec.String(), e.FileLength, m.count(e)
	}
	return nil
}

// count is how many compressed units a run has: one where it is known where it lies.
func (m *merger) count(e disk.Extent) int64 {
	if e.File != nil || m.unit == 0 {
		return 1
	}
	return (e.Length + m.unit - 1) / m.unit
}

func (m *merger) flush() error {
	if !m.have {
		return nil
	}
	m.have = false
	return m.emit(m.run)
}

type mapWriter struct {
	w    *bufio.Writer
	json bool
	rows int
}

func (w *mapWriter) begin() {
	if w.json {
		w.w.WriteString("[")
	} else {
		fmt.Fprintf(w.w, "%16s  %16s  %-10s  %16s  %16s\n", "START", "LENGTH", "KIND", "FILE OFFSET", "STORED")
	}
}

func (w *mapWriter) write(r diskRun) error {
	w.rows++
	if !w.json {
		offset, stored := "", ""
		if r.Offset != nil {
			offset = fmt.Sprint(*r.Offset)
		}
		if r.Units > 0 && r.Stored > 0 {
			stored = fmt.Sprint(r.Stored)
		}
		_, err := fmt.Fprintf(w.w, "%16d  %16d  %-10s  %16s  %16s\n", r.Start, r.Length, r.Kind, offset, stored)
		return err
	}
	if w.rows > 1 {
		w.w.WriteString(",")
	}
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	w.w.WriteString("\n  ")
	_, err = w.w.Write(b)
	return err
}

func (w *mapWriter) end() error {
	if w.json {
		if w.rows > 0 {
			w.w.WriteString("\n")
		}
		w.w.WriteString("]\n")
	}
	return w.w.Flush()
}
