// Imported while a sandbox stands ready: the first import of a module from a file takes 10 ms and more, later ones do not.
export {};
