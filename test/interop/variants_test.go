package interop

// theirs is one way in which qemu-img makes an image.
type theirs struct {
	name, format string
	options      string
	// packed images are made from a raw one at once; the others are written
	// to bit by bit.
	packed bool
	// convert has an image made by "convert" although it is not packed:
	// QEMU cannot write to it otherwise.
	convert bool
	// below is the format of the image that this one is a delta of.
	below string
}

// ending is that of the image's name: some formats go by it.
func (v theirs) ending() string {
	if v.format == "vpc" {
		return ".vhd"
	}
	return "." + v.format
}

// all gives every format and subformat that both qemu-img and Ovation know, in
// the variants that are read in ways of their own.
func all() []theirs {
	list := []theirs{
		{name: "raw", format: "raw"},
		{name: "qcow2-v2", format: "qcow2", options: "compat=0.10"},
		{name: "qcow2-v3", format: "qcow2", options: "compat=1.1"},
		{name: "qcow2-512", format: "qcow2", options: "cluster_size=512"},
		{name: "qcow2-4K", format: "qcow2", options: "cluster_size=4K"},
		{name: "qcow2-2M", format: "qcow2", options: "cluster_size=2M"},
		{name: "qcow2-extended-16K", format: "qcow2", options: "extended_l2=on,cluster_size=16K"},
		{name: "qcow2-extended-128K", format: "qcow2", options: "extended_l2=on,cluster_size=128K"},
		{name: "qcow2-extended-2M", format: "qcow2", options: "extended_l2=on,cluster_size=2M"},
		{name: "qcow2-lazy", format: "qcow2", options: "lazy_refcounts=on"},
		{name: "qcow2-metadata", format: "qcow2", options: "preallocation=metadata"},
		{name: "qcow2-falloc", format: "qcow2", options: "preallocation=falloc"},
		{name: "qcow2-data-file", format: "qcow2", options: "data_file=external.raw"},
		{name: "qcow2-data-file-raw", format: "qcow2", options: "data_file=external.raw,data_file_raw=on"},
		{name: "qcow2-zlib", format: "qcow2", packed: true},
		{name: "qcow2-zlib-v2-4K", format: "qcow2", options: "compat=0.10,cluster_size=4K", packed: true},
		{name: "qcow2-zlib-2M", format: "qcow2", options: "cluster_size=2M", packed: true},
		{name: "qcow2-zlib-extended", format: "qcow2", options: "extended_l2=on", packed: true},
		{name: "qcow2-zstd", format: "qcow2", options: "compression_type=zstd", packed: true},
		{name: "qcow2-zstd-512", format: "qcow2", options: "compression_type=zstd,cluster_size=512", packed: true},
		{name: "qcow2-zstd-2M", format: "qcow2", options: "compression_type=zstd,cluster_size=2M", packed: true},
		{name: "qcow2-on-qcow2", format: "qcow2", below: "qcow2"},
		{name: "qcow2-extended-on-qcow2", format: "qcow2", options: "extended_l2=on", below: "qcow2"},
		{name: "qcow2-on-raw", format: "qcow2", below: "raw"},
		{name: "qcow2-on-vmdk", format: "qcow2", below: "vmdk"},
		{name: "vmdk-sparse", format: "vmdk", options: "subformat=monolithicSparse"},
		{name: "vmdk-sparse-zeroed-grain", format: "vmdk", options: "subformat=monolithicSparse,zeroed_grain=on"},
		{name: "vmdk-sparse-compat6", format: "vmdk", options: "subformat=monolithicSparse,compat6=on"},
		{name: "vmdk-flat", format: "vmdk", options: "subformat=monolithicFlat"},
		{name: "vmdk-2gb-sparse", format: "vmdk", options: "subformat=twoGbMaxExtentSparse"},
		{name: "vmdk-2gb-flat", format: "vmdk", options: "subformat=twoGbMaxExtentFlat"},
		{name: "vmdk-stream", format: "vmdk", options: "subformat=streamOptimized", convert: true},
		{name: "vmdk-on-vmdk", format: "vmdk", options: "subformat=monolithicSparse", below: "vmdk"},
		{name: "vhd-dynamic", format: "vpc", options: "subformat=dynamic"},
		{name: "vhd-dynamic-force", format: "vpc", options: "subformat=dynamic,force_size=on"},
		{name: "vhd-fixed", format: "vpc", options: "subformat=fixed"},
		{name: "vhd-fixed-force", format: "vpc", options: "subformat=fixed,force_size=on"},
		{name: "vhdx-dynamic", format: "vhdx", options: "subformat=dynamic"},
		{name: "vhdx-dynamic-1M", format: "vhdx", options: "subformat=dynamic,block_size=1M,log_size=2M"},
		{name: "vhdx-dynamic-256M", format: "vhdx", options: "subformat=dynamic,block_size=256M"},
		{name: "vhdx-no-zero", format: "vhdx", options: "subformat=dynamic,block_state_zero=off"},
		{name: "vhdx-fixed", format: "vhdx", options: "subformat=fixed"},
		{name: "vdi-dynamic", format: "vdi", options: "static=off"},
		{name: "vdi-static", format: "vdi", options: "static=on"},
	}
	for _, bits := range []string{"1", "2", "4", "8", "32", "64"} {
		list = append(list, theirs{name: "qcow2-refcount-" + bits, format: "qcow2", options: "refcount_bits=" + bits})
	}
	return list
}

// ours is one way in which Ovation makes an image.
type ours struct {
	name, format, subformat string
	unit                    int64
	compress, zstd          bool
	// checked says that "qemu-img check" knows such images.
	checked bool
	// mapped says that QEMU passes quickly over what is not there, which
	// counts on large disks.
	mapped bool
	// most is how large a disk may be, 0 for no bound here.
	most int64
}

func (v ours) file() string {
	switch v.format {
	case "vpc":
		return v.name + ".vhd"
	case "raw":
		return v.name + ".img"
	}
	return v.name + "." + v.format
}

// made gives every format and subformat that Ovation makes.
func made() []ours {
	return []ours{
		{name: "raw", format: "raw", mapped: true},
		{name: "qcow2", format: "qcow2", checked: true, mapped: true},
		{name: "qcow2-512", format: "qcow2", unit: 512, checked: true, mapped: true, most: 100 << 30},
		{name: "qcow2-2M", format: "qcow2", unit: 2 << 20, checked: true, mapped: true},
		{name: "qcow2-zlib", format: "qcow2", compress: true, checked: true, mapped: true},
		{name: "qcow2-zlib-4K", format: "qcow2", compress: true, unit: 4 << 10, checked: true, mapped: true},
		{name: "qcow2-zlib-2M", format: "qcow2", compress: true, unit: 2 << 20, checked: true, mapped: true},
		{name: "qcow2-zstd", format: "qcow2", compress: true, zstd: true, checked: true, mapped: true},
		{name: "qcow2-zstd-2M", format: "qcow2", compress: true, zstd: true, unit: 2 << 20, checked: true, mapped: true},
		{name: "vmdk-stream", format: "vmdk", subformat: "streamOptimized", checked: true},
		{name: "vmdk-stream-1M", format: "vmdk", subformat: "streamOptimized", unit: 1 << 20, checked: true},
		{name: "vmdk-sparse", format: "vmdk", subformat: "monolithicSparse", checked: true},
		{name: "vmdk-flat", format: "vmdk", subformat: "monolithicFlat", mapped: true},
		{name: "vmdk-2gb-sparse", format: "vmdk", subformat: "twoGbMaxExtentSparse", checked: true},
		{name: "vmdk-2gb-flat", format: "vmdk", subformat: "twoGbMaxExtentFlat", mapped: true},
		{name: "vmdk-vmfs", format: "vmdk", subformat: "vmfs", mapped: true},
		{name: "vhd-dynamic", format: "vpc", subformat: "dynamic", mapped: true, most: 2040 << 30},
		{name: "vhd-fixed", format: "vpc", subformat: "fixed", mapped: true, most: 2040 << 30},
		{name: "vhd-dynamic-aligned", format: "vpc", subformat: "dynamic-aligned", mapped: true, most: 2040 << 30},
		{name: "vhd-fixed-aligned", format: "vpc", subformat: "fixed-aligned", mapped: true, most: 2040 << 30},
		{name: "vhdx-dynamic", format: "vhdx", subformat: "dynamic", checked: true},
		{name: "vhdx-dynamic-32M", format: "vhdx", subformat: "dynamic", unit: 32 << 20, checked: true},
		{name: "vhdx-fixed", format: "vhdx", subformat: "fixed", checked: true},
		{name: "vdi-dynamic", format: "vdi", subformat: "dynamic", checked: true, mapped: true},
		{name: "vdi-fixed", format: "vdi", subformat: "fixed", checked: true, mapped: true},
	}
}
