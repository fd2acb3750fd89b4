// Two objects with equal flags link, and compute the same bits.
#include "unit.hpp"

Result one();
Result two();

int main() { return one().sum == two().sum ? 0 : 1; }
