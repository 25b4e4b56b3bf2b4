package artifact

// Names of an artifact's files. The manifest does not list itself, the sums and the provenance: a
// file cannot contain its own digest, or that of a file that contains its digest.
const (
	RootfsFile     = "rootfs.img"           // the root file system
	KernelFile     = "kernel"               // a raw arm64 Image or a bzImage
	SpecFile       = "vm.json"              // see package vmspec
	RunnerFile     = "sov-runner"           // the program that runs the machine on a phone
	SBOMFile       = "sbom.cdx.json"        // the bill of materials, in CycloneDX's format
	ManifestFile   = "manifest.json"        // see package manifest
	ProvenanceFile = "provenance.json"      // see package provenance
	SignedFile     = "provenance.dsse.json" // the provenance in a DSSE envelope
	TakenFile      = "taken.json"           // not part of the artifact: results from remote caches, see package taken
	DiskFile       = "disk.img"             // the whole as a disk that boots under UEFI, on demand; see package stages/disk
	SumsFile       = "SHA256SUMS"           // for sha256sum -c: all files, including the manifest and the provenance
)

// ModuleFile is the name of a machine's module for root managers.
func ModuleFile(machine string) string { return "sov-" + machine + ".zip" }
