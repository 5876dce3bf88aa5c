#include "stdin.h"
#include <boost/json/src.hpp>
#include <iostream>

int main() {
    size_t size;
    const char *text = read_stdin(&size);
    std::cout << boost::json::serialize(boost::json::parse(boost::json::string_view(text, size)));
}
