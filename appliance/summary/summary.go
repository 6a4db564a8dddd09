// Package summary says what is in an OVF package, as data: what "ovation
// inspect" shows, and the JSON that it prints.
package summary

// APIVersion is the version of the JSON shape. Fields may be added within a
// version; none change their meaning or go away.
const APIVersion = "ovation/inspect/v1"

// Summary is what is in a package. Sizes are in bytes, -1 where not known.
type Summary struct {
	APIVersion  string   `json:"apiVersion"`
	Locator     string   `json:"locator"`
	Kind        string   `json:"kind"`
	Descriptor  string   `json:"descriptor"`
	OVFVersion  string   `json:"ovfVersion"`
	Manifest    string   `json:"manifest,omitempty"`
	Algorithms  []string `json:"algorithms,omitempty"`
	Certificate string   `json:"certificate,omitempty"`

	Products []Product `json:"products,omitempty"`
	EULAs    []EULA    `json:"eulas,omitempty"`
	Files    []File    `json:"files,omitempty"`
	Disks    []Disk    `json:"disks,omitempty"`
	Networks []Network `json:"networks,omitempty"`
	Options  []Option  `json:"deploymentOptions,omitempty"`
	// Content is the virtual system or the collection.
	Content *Content `json:"content,omitempty"`
	// Problems are what keeps the descriptor from being deployed as it is,
	// Notes what a person should know.
	Problems []string `json:"problems,omitempty"`
	Notes    []string `json:"notes,omitempty"`
}

// Product is a ProductSection.
type Product struct {
	System      string `json:"system,omitempty"`
	Product     string `json:"product,omitempty"`
	Vendor      string `json:"vendor,omitempty"`
	Version     string `json:"version,omitempty"`
	FullVersion string `json:"fullVersion,omitempty"`
	ProductURL  string `json:"productUrl,omitempty"`
	VendorURL   string `json:"vendorUrl,omitempty"`
}

// EULA is a licence agreement.
type EULA struct {
	System string `json:"system,omitempty"`
	Text   string `json:"text"`
}

// File is a referenced file. Size is that of the stored file; where it lies on a
// web server it is what the descriptor says.
type File struct {
	ID          string `json:"id"`
	Href        string `json:"href"`
	Size        int64  `json:"size"`
	Compression string `json:"compression,omitempty"`
	ChunkSize   int64  `json:"chunkSize,omitempty"`
	Missing     bool   `json:"missing,omitempty"`
}

// Disk is a virtual disk.
type Disk struct {
	ID            string `json:"id"`
	Capacity      int64  `json:"capacity"`
	FileSize      int64  `json:"fileSize"`
	PopulatedSize int64  `json:"populatedSize"`
	Href          string `json:"href,omitempty"`
	Format        string `json:"format,omitempty"`
	Parent        string `json:"parent,omitempty"`
	Shared        bool   `json:"shared,omitempty"`
}

// Network is a logical network.
type Network struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
}

// Option is a deployment option.
type Option struct {
	ID          string `json:"id"`
	Label       string `json:"label,omitempty"`
	Description string `json:"description,omitempty"`
	Default     bool   `json:"default,omitempty"`
	Chosen      bool   `json:"chosen,omitempty"`
}

// Content is a virtual system or a collection.
type Content struct {
	Kind       string     `json:"kind"`
	ID         string     `json:"id"`
	Name       string     `json:"name,omitempty"`
	Info       string     `json:"info,omitempty"`
	Annotation string     `json:"annotation,omitempty"`
	Properties []Property `json:"properties,omitempty"`
	Startup    []Startup  `json:"startup,omitempty"`
	Children   []*Content `json:"children,omitempty"`
	System     *System    `json:"system,omitempty"`
}

// System is a virtual system's hardware for the chosen deployment option.
type System struct {
	OS             string   `json:"os,omitempty"`
	OSID           int      `json:"osId,omitempty"`
	Families       []string `json:"families,omitempty"`
	Transports     []string `json:"transports,omitempty"`
	Firmware       string   `json:"firmware,omitempty"`
	CPUs           int      `json:"cpus"`
	CoresPerSocket int      `json:"coresPerSocket,omitempty"`
	MemoryBytes    int64    `json:"memoryBytes"`
	Items          []Item   `json:"items,omitempty"`
}

// Item is one resource.
type Item struct {
	InstanceID   string   `json:"instanceId"`
	Name         string   `json:"name,omitempty"`
	ResourceType int      `json:"resourceType"`
	Kind         string   `json:"kind"`
	SubTypes     []string `json:"resourceSubType,omitempty"`
	Quantity     int64    `json:"quantity,omitempty"`
	Parent       string   `json:"parent,omitempty"`
	Address      string   `json:"address,omitempty"`
	Connections  []string `json:"connections,omitempty"`
	Resources    []string `json:"hostResources,omitempty"`
	Required     bool     `json:"required"`
}

// Property is a property with its value. A password's value is never given.
type Property struct {
	Key              string `json:"key"`
	Type             string `json:"type"`
	Label            string `json:"label,omitempty"`
	Description      string `json:"description,omitempty"`
	Category         string `json:"category,omitempty"`
	Qualifiers       string `json:"qualifiers,omitempty"`
	Value            string `json:"value"`
	HasValue         bool   `json:"hasValue"`
	UserConfigurable bool   `json:"userConfigurable"`
	Password         bool   `json:"password,omitempty"`
}

// Startup is one entry of a StartupSection.
type Startup struct {
	ID              string `json:"id"`
	Order           int    `json:"order"`
	StartDelay      int    `json:"startDelaySeconds,omitempty"`
	WaitingForGuest bool   `json:"waitingForGuest,omitempty"`
}
