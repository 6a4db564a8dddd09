package lint

const (
	general    = "7 Envelope Element"
	references = "7.1 File References"
	extension  = "7.3 Extensibility"
	hardware   = "8.1 VirtualHardwareSection"
	elements   = "8.3 Virtual Hardware Elements"
	ranges     = "8.4 Ranges on Elements"
	diskClause = "9.1 DiskSection"
	netClause  = "9.2 NetworkSection"
	resources  = "9.3 ResourceAllocationSection"
	product    = "9.5 ProductSection"
	property   = "9.5.1 Property Elements"
	startup    = "9.7 StartupSection"
	deployment = "9.8 DeploymentOptionSection"
	texts      = "10 Internationalization"
)

// rules is the table of all rules, by ID.
var rules = []Rule{
	{"OVF-ANN-001", Warning, "9.4 AnnotationSection", "An AnnotationSection has an Annotation", "Add the Annotation element, or remove the section.", false},

	{"OVF-DEPL-001", Error, deployment, "A Configuration has an ID", "Give the Configuration an ovf:id.", false},
	{"OVF-DEPL-002", Error, deployment, "IDs of Configurations are unique", "Give each Configuration an ovf:id of its own.", false},
	{"OVF-DEPL-003", Error, deployment, "At most one Configuration is the default", "Set ovf:default=\"true\" on one Configuration only.", false},
	{"OVF-DEPL-004", Error, deployment, "Configurations that are referred to exist", "Name a Configuration of the DeploymentOptionSection, or add it there.", false},
	{"OVF-DEPL-005", Warning, deployment, "A Configuration has a Label", "Add a Label, which is what people choose by.", false},

	{"OVF-DISK-001", Error, diskClause, "A Disk has a diskId", "Give the Disk an ovf:diskId.", false},
	{"OVF-DISK-002", Error, diskClause, "IDs of Disks are unique", "Give each Disk an ovf:diskId of its own.", false},
	{"OVF-DISK-003", Error, diskClause, "A Disk has a capacity", "Give the Disk an ovf:capacity: a number, or ${property}.", false},
	{"OVF-DISK-004", Error, diskClause, "A capacity is a number of bytes above zero", "Write a whole number in units of ovf:capacityAllocationUnits.", false},
	{"OVF-DISK-005", Error, diskClause, "capacityAllocationUnits is a unit of bytes", "Write a programmatic unit such as \"byte * 2^30\".", false},
	{"OVF-DISK-006", Warning, diskClause, "capacityAllocationUnits is a programmatic unit", "Write \"byte * 2^20\" for megabytes, \"byte * 2^30\" for gigabytes.", false},
	{"OVF-DISK-007", Error, diskClause, "A Disk's fileRef is a File's ID", "Add the File to the References, or correct ovf:fileRef.", false},
	{"OVF-DISK-008", Error, diskClause, "A File is the content of one Disk", "Give each Disk a File of its own.", true},
	{"OVF-DISK-009", Error, diskClause, "A Disk has a format", "Give the Disk an ovf:format, the URI of its format.", true},
	{"OVF-DISK-010", Error, diskClause, "A Disk's parentRef is a Disk's ID", "Add the parent Disk, or correct ovf:parentRef.", false},
	{"OVF-DISK-011", Error, diskClause, "No Disk is a delta of itself", "Break the circle of ovf:parentRef.", false},
	{"OVF-DISK-012", Error, diskClause, "populatedSize is a number of bytes", "Write a whole number of bytes, or leave ovf:populatedSize out.", false},
	{"OVF-DISK-013", Warning, diskClause, "populatedSize is at most the capacity", "Write the number of bytes that the disk's data takes, or leave ovf:populatedSize out.", false},
	{"OVF-DISK-014", Error, diskClause, "A capacity refers to a property that exists", "Add the property, or correct ${…}.", false},

	{"OVF-ENV-001", Error, general, "The envelope is in a namespace of OVF", "Use http://schemas.dmtf.org/ovf/envelope/1 or /2.", false},
	{"OVF-ENV-002", Error, "7.2 Content Element", "There is one VirtualSystem or VirtualSystemCollection", "Add it, or put several VirtualSystems into a VirtualSystemCollection.", false},
	{"OVF-ENV-003", Error, references, "There is a References element", "Add <References/>, empty where there are no files.", false},
	{"OVF-ENV-004", Warning, general, "References, sections, content and Strings come in this order", "Move the element to its place.", false},
	{"OVF-ENV-005", Warning, general, "ovf:version fits the namespace", "Write the version of the standard that the namespace is of.", false},
	{"OVF-ENV-006", Error, "7.2 Content Element", "A VirtualSystem and a VirtualSystemCollection have an ID", "Give it an ovf:id.", false},
	{"OVF-ENV-007", Error, "7.2 Content Element", "IDs of virtual systems and collections are unique", "Give each an ovf:id of its own.", false},
	{"OVF-ENV-008", Warning, "7.2 Content Element", "A VirtualSystemCollection holds virtual systems", "Add a VirtualSystem, or remove the collection.", false},

	{"OVF-EULA-001", Error, "9.6 EulaSection", "An EulaSection has a License", "Add the License element, or remove the section.", true},

	{"OVF-EXT-001", Error, extension, "What is not of the standard is not required", "Say ovf:required=\"false\" where a product that does not know the element may go on without it; otherwise only products that know it can deploy the package.", false},
	{"OVF-EXT-002", Info, extension, "What is not of the standard is known", "Nothing has to be done: the element is passed over.", false},
	{"OVF-EXT-003", Error, extension, "ovf:required is true or false", "Write ovf:required=\"true\" or ovf:required=\"false\".", false},

	{"OVF-HW-001", Error, elements, "An Item has an InstanceID", "Add rasd:InstanceID, unique within the section.", false},
	{"OVF-HW-002", Error, elements, "InstanceIDs are unique", "Give each Item an InstanceID of its own; only ranges and Items for other deployment options share one.", false},
	{"OVF-HW-003", Error, elements, "An Item has a ResourceType", "Add rasd:ResourceType, a number of CIM_ResourceAllocationSettingData.", false},
	{"OVF-HW-004", Error, elements, "A ResourceType is a number", "Write a number of CIM_ResourceAllocationSettingData.ResourceType: 3 for processors, 4 for memory, 17 for disks.", false},
	{"OVF-HW-005", Error, ranges, "ovf:bound is normal, min or max", "Write ovf:bound=\"min\", \"max\" or \"normal\".", false},
	{"OVF-HW-006", Error, ranges, "A range has one lower and one upper end", "Remove the second Item with this bound and InstanceID.", false},
	{"OVF-HW-007", Error, ranges, "A range does not go downwards", "Write a max that is not below the min.", false},
	{"OVF-HW-008", Error, elements, "A Parent is the InstanceID of an Item", "Add the controller, or correct rasd:Parent.", true},
	{"OVF-HW-009", Error, elements, "A HostResource names a Disk or File that exists", "Add the Disk or File, or correct rasd:HostResource.", false},
	{"OVF-HW-010", Warning, elements, "A HostResource is written ovf:/disk/ID or ovf:/file/ID", "Write ovf:/disk/ID or ovf:/file/ID.", false},
	{"OVF-HW-011", Error, elements, "AllocationUnits is a unit", "Write a programmatic unit such as \"byte * 2^20\" or \"hertz * 10^6\".", false},
	{"OVF-HW-012", Warning, elements, "AllocationUnits is a programmatic unit", "Write \"byte * 2^20\" for MegaBytes, \"hertz * 10^6\" for MHz.", false},
	{"OVF-HW-013", Error, elements, "Quantities are numbers", "Write a whole number that is not negative.", false},
	{"OVF-HW-014", Warning, elements, "Memory has AllocationUnits", "Add rasd:AllocationUnits, byte * 2^20 for MiB.", false},
	{"OVF-HW-015", Warning, elements, "An Item has an ElementName", "Add rasd:ElementName (rasd:Caption in 0.9).", false},
	{"OVF-HW-016", Warning, hardware, "A System says its family", "Add vssd:VirtualSystemType, such as vmx-13.", false},
	{"OVF-HW-017", Error, hardware, "A VirtualSystem has one OperatingSystemSection at most, and hardware sections differ", "Give each VirtualHardwareSection a family (VirtualSystemType) of its own.", true},
	{"OVF-HW-018", Warning, elements, "Two devices are not at one place", "Give each device an AddressOnParent of its own.", false},
	{"OVF-HW-019", Error, elements, "No Item is its own parent", "Break the circle of rasd:Parent.", false},
	{"OVF-HW-020", Error, elements, "Processors and memory are more than zero", "Write a number above zero.", false},

	{"OVF-MSG-001", Error, texts, "A Strings element says its language", "Add xml:lang.", true},
	{"OVF-MSG-002", Warning, texts, "A Strings element's file exists", "Add the File to the References, or correct ovf:fileRef.", false},
	{"OVF-MSG-003", Error, texts, "A Msg has an ovf:msgid", "Give the Msg an ovf:msgid.", false},
	{"OVF-MSG-004", Warning, texts, "A msgid is that of a message in some language", "Add the message to the Strings, or remove ovf:msgid.", false},

	{"OVF-NET-001", Error, netClause, "A Network has a name", "Give the Network an ovf:name.", false},
	{"OVF-NET-002", Error, netClause, "Names of Networks are unique", "Give each Network an ovf:name of its own.", false},
	{"OVF-NET-003", Error, netClause, "A Connection is the name of a Network", "Add the Network to the NetworkSection, or correct rasd:Connection.", true},

	{"OVF-OS-001", Error, "9.9 OperatingSystemSection", "An OperatingSystemSection has an ID", "Give it an ovf:id, a number of CIM_OperatingSystem.OsType.", false},

	{"OVF-PKG-001", Error, "5.1 OVF Package Structure", "The files of the References are in the package", "Add the file, or remove the File element.", false},
	{"OVF-PKG-002", Error, references, "Files have the sizes of the References", "Correct ovf:size, or put the right file into the package.", false},
	{"OVF-PKG-003", Info, "5.1 OVF Package Structure", "There is a manifest", "Add a manifest, by which anyone can check that the files are intact.", false},
	{"OVF-PKG-004", Warning, "5.1 OVF Package Structure", "All files of an archive are referred to", "Add the file to the References, or leave it out.", false},
	{"OVF-PKG-005", Error, diskClause, "A disk's file is of the format that it is said to be", "Correct ovf:format, or convert the disk.", false},
	{"OVF-PKG-006", Warning, "5.3 Distribution as a Single File", "The descriptor is the first file of an archive", "Make the archive again, the descriptor first.", false},
	{"OVF-PKG-007", Error, diskClause, "A disk's file has the capacity that it is said to have", "Correct ovf:capacity.", false},

	{"OVF-PROP-001", Error, property, "A Property has a key", "Give the Property an ovf:key.", false},
	{"OVF-PROP-002", Error, property, "Keys are unique", "Give each Property a key of its own, or the ProductSection an ovf:class or ovf:instance.", false},
	{"OVF-PROP-003", Error, property, "A Property has a type", "Give the Property an ovf:type, such as string.", true},
	{"OVF-PROP-004", Error, property, "A Property's type is known", "Use string, boolean, uint8 to uint64, sint8 to sint64, real32 or real64.", true},
	{"OVF-PROP-005", Error, property, "A Property's value is of its type and keeps its qualifiers", "Correct ovf:value, or the type or the qualifiers.", false},
	{"OVF-PROP-006", Warning, property, "Qualifiers can be read", "Write them as CIM does: MinLen(1), ValueMap{\"a\",\"b\"}.", false},
	{"OVF-PROP-007", Warning, property, "A key holds no period or colon", "Use ovf:class and ovf:instance for the parts of the key.", false},
	{"OVF-PROP-008", Error, product, "ProductSections differ in class or instance", "Give the ProductSections an ovf:class or ovf:instance each.", true},
	{"OVF-PROP-009", Warning, property, "ovf:userConfigurable and ovf:password are true or false", "Write true or false.", false},
	{"OVF-PROP-010", Warning, property, "A password has no default", "Leave ovf:value out: all who have the package can read it.", false},
	{"OVF-PROP-011", Warning, property, "A type that is a vendor's own is not used", "Use a type of the standard; vmw:qualifiers say more.", false},

	{"OVF-REF-001", Error, references, "A File has an ID", "Give the File an ovf:id.", false},
	{"OVF-REF-002", Error, references, "A File has an href", "Give the File an ovf:href.", false},
	{"OVF-REF-003", Error, references, "IDs of Files are unique", "Give each File an ovf:id of its own.", false},
	{"OVF-REF-004", Error, references, "A size is a number of bytes", "Write the file's size, or leave ovf:size out.", false},
	{"OVF-REF-005", Warning, references, "A size is not negative", "Write the file's size, or leave ovf:size out where it is not known.", false},
	{"OVF-REF-006", Error, references, "A compression is gzip or identity", "Write ovf:compression=\"gzip\", or leave it out.", false},
	{"OVF-REF-007", Error, references, "A chunkSize is a number of bytes", "Write a whole number above zero.", false},
	{"OVF-REF-008", Warning, references, "An href is a file beside the descriptor", "Put the file beside the descriptor: in an archive nothing else can be.", false},
	{"OVF-REF-009", Warning, references, "An href stands once", "Refer to the one File from several places.", false},
	{"OVF-REF-010", Info, references, "A File is used", "Remove the File element and the file, or refer to it.", false},
	{"OVF-REF-011", Error, references, "OVF 0.9 knows no compression \"identity\"", "Leave ovf:compression out.", false},
	{"OVF-REF-012", Error, references, "An href can be read", "Write a relative URI; spaces are written %20.", true},

	{"OVF-RES-001", Error, resources, "Only collections have a ResourceAllocationSection", "Move the section into a VirtualSystemCollection.", false},

	{"OVF-SEC-001", Error, "9 Core Metadata Sections", "Sections stand where the standard has them", "Move the section to its place.", false},
	{"OVF-SEC-002", Error, "9 Core Metadata Sections", "A section stands once", "Put what is in the second section into the first.", true},
	{"OVF-SEC-003", Warning, "7 Envelope Element", "A section has an Info", "Add an Info element as the first child.", false},

	{"OVF-START-001", Error, startup, "An Item's id is that of an entity of the collection", "Correct ovf:id, or add the virtual system.", true},
	{"OVF-START-002", Error, startup, "An Item has an order", "Give the Item an ovf:order, a number from 0 on.", false},
	{"OVF-START-003", Error, startup, "Delays are numbers of seconds", "Write a whole number of seconds.", false},
	{"OVF-START-004", Error, startup, "Actions are those of the standard", "Use powerOn or none to start, powerOff, guestShutdown or none to stop.", true},
	{"OVF-START-005", Error, startup, "An entity stands once", "Remove the second Item for it.", false},

	{"OVF-XML-001", Error, "Namespaces in XML 1.0, clause 5", "Prefixes are declared", "Declare the prefix with xmlns:…, or correct it.", false},
}
