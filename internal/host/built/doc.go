// Package built finds the output of `sov build`: the folder of a recipe's artifact, the machine of
// an argument, and the image of a root file system. Package verify checks artifacts, and package
// inspect reads their content.
package built
